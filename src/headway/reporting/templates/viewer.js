"use strict";
/* The attention viewer: a text, the heads of a layer, and where the chosen head looks from each token. */
(async () => {
  const box = document.getElementById("headway-viewer");
  const { texts, patterns } = JSON.parse(document.getElementById("headway-patterns").textContent);
  const values = await unpack(document.getElementById("headway-attention").textContent);
  const { run, step, layer, head, place } = patterns;
  const size = (at) => texts[place[at]].tokens.length;
  const starts = new Array(step.length);
  for (let at = 0, sum = 0; at < step.length; at++) { starts[at] = sum; sum += (size(at) * (size(at) + 1)) / 2; }
  const chosen = { run: 0, step: null, text: 0, layer: null, head: null };
  let token = 0, fixed = false, towards = false;

  async function unpack(base64) {
    const bytes = Uint8Array.from(atob(base64.trim()), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /* ---- which pattern ---- */
  const column = { run: run.codes, step, text: patterns.text, layer, head };
  const order = ["run", "text", "step", "layer", "head"];

  function matching(names) {
    const found = [];
    for (let at = 0; at < step.length; at++) if (names.every((name) => column[name][at] === chosen[name])) found.push(at);
    return found;
  }

  function options(name) {
    const before = order.slice(0, order.indexOf(name));
    return [...new Set(matching(before).map((at) => column[name][at]))].sort((a, b) => a - b);
  }

  function settle() {
    for (const name of order) {
      const some = options(name);
      if (!some.includes(chosen[name])) chosen[name] = name === "step" ? some.at(-1) : some[0];
    }
    return matching(order)[0];
  }

  const value = (at, i, j) => (j > i ? 0 : values[starts[at] + (i * (i + 1)) / 2 + j] / 255);
  const visible = (text) => text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ +/, (some) => "·".repeat(some.length)) || "∅";

  /* ---- drawing ---- */
  const part = (name) => box.querySelector(`[data-part="${name}"]`);
  const ink = () => getComputedStyle(box).getPropertyValue("--mark").trim();

  function paint(canvas, at, cell) {
    const n = size(at), context = canvas.getContext("2d");
    canvas.width = canvas.height = n * cell;
    context.fillStyle = ink();
    for (let i = 0; i < n; i++) for (let j = 0; j <= i; j++) {
      const alpha = value(at, i, j);
      if (alpha < 0.004) continue;
      context.globalAlpha = alpha;
      context.fillRect(j * cell, i * cell, cell, cell);
    }
    context.globalAlpha = 1;
  }

  function label(name, at) { return name === "run" ? run.levels[at] : name === "text" ? texts[place[matching(["run", "text"])[0] ?? 0]].title : String(at); }

  function selects() {
    for (const name of ["run", "text", "layer"]) {
      const select = part(name), some = options(name), before = chosen[name];
      select.replaceChildren(...some.map((one) => {
        chosen[name] = one;
        return new Option(label(name, one), one);
      }));
      chosen[name] = before;
      select.value = before;
    }
    const steps = options("step"), slider = part("step");
    Object.assign(slider, { min: 0, max: steps.length - 1, value: steps.indexOf(chosen.step) });
    slider.disabled = steps.length < 2;
    part("step-now").textContent = chosen.step.toLocaleString("en");
    slider.setAttribute("aria-valuetext", part("step-now").textContent);
  }

  function heads() {
    part("heads").replaceChildren(...options("head").map((one) => {
      const button = document.createElement("button"), canvas = document.createElement("canvas"), name = document.createElement("span");
      const at = matching(["run", "text", "step", "layer"]).find((place) => head[place] === one);
      button.type = "button";
      button.dataset.head = one;
      button.setAttribute("aria-pressed", String(one === chosen.head));
      button.setAttribute("aria-label", `head ${one}`);
      name.textContent = one;
      paint(canvas, at, Math.max(1, Math.round(56 / size(at))));
      button.append(canvas, name);
      button.addEventListener("click", () => { chosen.head = one; show(); });
      return button;
    }));
  }

  function words(at) {
    part("tokens").replaceChildren(...texts[place[at]].tokens.map((text, i) => {
      const one = document.createElement("span");
      one.textContent = visible(text);
      one.tabIndex = 0;
      one.dataset.token = i;
      for (const event of ["pointerenter", "focus"]) one.addEventListener(event, () => { if (!fixed || event === "focus") look(at, i); });
      one.addEventListener("click", () => { fixed = !(fixed && token === i); look(at, i); });
      return one;
    }));
  }

  function look(at, i) {
    token = i;
    const n = size(at), seen = Array.from({ length: n }, (_, j) => (towards ? value(at, j, i) : value(at, i, j)));
    [...part("tokens").children].forEach((one, j) => {
      one.style.setProperty("--share", `${Math.round(100 * seen[j])}%`);
      one.classList.toggle("here", j === i);
      one.classList.toggle("strong", seen[j] > 0.55);
    });
    part("tokens").classList.toggle("fixed", fixed);
    const most = seen.map((share, j) => [share, j]).sort((a, b) => b[0] - a[0]).slice(0, 3).filter(([share]) => share >= 0.01);
    const named = (j) => `“${visible(texts[place[at]].tokens[j])}” (${j})`;
    const what = towards ? `${named(i)} is attended to by` : `${named(i)} attends to`;
    part("said").textContent = `${what} ${most.map(([share, j]) => `${named(j)} ${share.toFixed(2)}`).join(", ") || "no token by 0.01 or more"}`;
    cross(at, i);
  }

  function cross(at, i) {
    const canvas = part("matrix"), n = size(at), cell = Math.max(3, Math.floor(380 / n)), context = canvas.getContext("2d");
    paint(canvas, at, cell);
    context.strokeStyle = getComputedStyle(box).color;
    if (towards) context.strokeRect(i * cell + 0.5, i * cell + 0.5, cell - 1, (n - i) * cell - 1);
    else context.strokeRect(0.5, i * cell + 0.5, (i + 1) * cell - 1, cell - 1);
  }

  function show() {
    const at = settle();
    selects();
    heads();
    words(at);
    part("name").textContent = `${run.levels[chosen.run]}, step ${chosen.step.toLocaleString("en")}, layer ${chosen.layer}, head ${chosen.head}`;
    look(at, Math.min(token, size(at) - 1));
    box.dataset.shows = `${run.levels[chosen.run]}@${chosen.step} L${chosen.layer}H${chosen.head}`;
  }

  /* ---- the reader's choices ---- */
  for (const name of ["run", "text", "layer"]) {
    part(name).addEventListener("change", (event) => { chosen[name] = Number(event.target.value); fixed = false; show(); });
  }
  part("step").addEventListener("input", (event) => { chosen.step = options("step")[Number(event.target.value)]; show(); });
  part("towards").addEventListener("change", (event) => { towards = event.target.checked; look(settle(), token); });
  part("matrix").addEventListener("pointermove", (event) => {
    if (fixed) return;
    const at = settle(), area = event.target.getBoundingClientRect();
    const along = towards ? event.clientX - area.left : event.clientY - area.top;
    look(at, Math.max(0, Math.min(size(at) - 1, Math.floor((along / area.height) * size(at)))));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

  part("svg").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([drawing(settle())], { type: "image/svg+xml" }));
    link.download = `attention-${box.dataset.shows.replaceAll(/[^A-Za-z0-9.@-]+/g, "-")}.svg`;
    link.click();
  });

  function drawing(at) {
    const n = size(at), cell = 14, room = 110, side = n * cell, safe = (text) => text.replace(/[<>&"']/g, (sign) => `&#${sign.charCodeAt(0)};`).replace(/[\u0000-\u0008\u000b-\u001f\ufffe\uffff]/g, "�");
    const squares = [], names = [];
    texts[place[at]].tokens.forEach((text, i) => {
      const name = safe(visible(text).slice(0, 14));
      names.push(`<text x="${room - 4}" y="${room + i * cell + 11}" text-anchor="end">${name}</text>`);
      names.push(`<text transform="translate(${room + i * cell + 11} ${room - 4}) rotate(-90)">${name}</text>`);
      for (let j = 0; j <= i; j++) if (value(at, i, j) >= 0.004) squares.push(`<rect x="${room + j * cell}" y="${room + i * cell}" width="${cell}" height="${cell}" fill="#c2410c" fill-opacity="${value(at, i, j).toFixed(3)}"/>`);
    });
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${room + side + 8}" height="${room + side + 30}" font-family="sans-serif" font-size="10"><rect width="100%" height="100%" fill="white"/>${names.join("")}${squares.join("")}<rect x="${room}" y="${room}" width="${side}" height="${side}" fill="none" stroke="#999"/><text x="${room}" y="${room + side + 18}">${safe(part("name").textContent)}: row attends to column</text></svg>`;
  }

  show();
  box.dataset.ready = "yes";
})();
