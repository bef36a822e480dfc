"use strict";
/* Draws the figures of a headway report. Everything it needs is in the page; nothing is fetched. */
(async () => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const { figures, themes } = read("headway-figures");
  const tables = await unpack(document.getElementById("headway-data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const focus = { size: "", seed: "" };
  const drawn = new Map(); // figure's name -> {view, width}
  const state = new Map(); // figure's name -> what its controls say

  async function unpack(base64) {
    const bytes = Uint8Array.from(atob(base64.trim()), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  /* ---- tables: columns in the page, rows for the charts ---- */
  const cell = (column, i) => (column.levels ? (column.codes[i] === null ? null : column.levels[column.codes[i]]) : column.values[i]);
  const height = (table) => { const first = Object.values(table)[0]; return (first.codes || first.values).length; };

  function indices(table, wanted) {
    const found = [];
    const filters = Object.entries(wanted).filter(([name]) => name in table).map(([name, value]) => {
      const column = table[name];
      return column.levels ? [column.codes, column.levels.indexOf(value)] : [column.values, value];
    });
    for (let i = 0, n = height(table); i < n; i++) {
      if (filters.every(([values, value]) => values[i] === value)) found.push(i);
    }
    return found;
  }

  function rows(name, wanted) {
    const columns = Object.entries(tables[name]);
    return indices(tables[name], wanted).map((i) => Object.fromEntries(columns.map(([key, column]) => [key, cell(column, i)])));
  }

  function top(name, column, wanted) {
    return indices(tables[name], wanted).reduce((most, i) => Math.max(most, tables[name][column].values[i] ?? -Infinity), -Infinity);
  }

  /* ---- one figure ---- */
  const chosen = (figure) => Object.fromEntries(figure.controls.map((control) => [control.column, state.get(figure.name)[control.column]]));

  function datasets(figure) {
    return Object.fromEntries(figure.tables.map((name) => [name, rows(name, chosen(figure))]));
  }

  function colourTop(figure) {
    const still = Object.fromEntries(figure.controls.filter((c) => !c.slider).map((c) => [c.column, chosen(figure)[c.column]]));
    return top(figure.tables[0], figure.top, still);
  }

  function fitted(figure, width) {
    const spec = structuredClone(figure.spec);
    const { panels, panel_width, max_columns, own_axes, square } = figure.layout;
    if (spec.facet) {
      const axis = 54, gap = own_axes ? axis : 26;
      const columns = Math.max(1, Math.min(panels === max_columns + 1 ? panels : max_columns, panels, Math.floor((width - axis + gap) / (Math.min(panel_width, width - axis) + gap))));
      const room = Math.floor((width - axis - 10 - gap * (columns - 1)) / columns);
      spec.columns = columns;
      spec.spacing = { column: own_axes ? 12 : 26, row: 22 };
      if (panels % columns) spec.resolve = { ...spec.resolve, axis: { ...spec.resolve?.axis, x: "independent" } };  // no axis under an empty place
      spec.spec.width = square ? Math.min(room, 340) : room;
    } else if (square) {
      const side = Math.min(width, 560);
      Object.assign(spec, { width: side, height: side, autosize: { type: "fit", contains: "padding" } });
    } else {
      Object.assign(spec, { width, autosize: { type: "fit-x", contains: "padding" } });
    }
    for (const param of spec.params ?? []) {
      if (param.name === "focus_size") param.value = focus.size;
      if (param.name === "focus_seed") param.value = focus.seed;
      if (param.name === "top") param.value = colourTop(figure);
    }
    spec.datasets = datasets(figure);
    return spec;
  }

  async function draw(name) {
    const figure = figures[name];
    const box = document.querySelector(`[data-chart="${CSS.escape(name)}"]`);
    const width = Math.floor(box.clientWidth);
    if (!width || drawn.get(name)?.width === width) return;
    drawn.get(name)?.view?.finalize();
    drawn.set(name, { width });
    const theme = structuredClone(themes[figure.theme][dark.matches ? "dark" : "light"]);
    theme.legend.disable = true; // the page's own buttons explain the sizes' colours; other legends ask to be shown
    const spec = fitted(figure, width);
    theme.axisX.titleLimit = spec.spec?.width ?? width;
    const many = Object.values(spec.datasets).reduce((n, some) => n + some.length, 0) > 3000;
    try {
      const { view } = await vegaEmbed(box, spec, {
        mode: "vega-lite", ast: true, actions: false, config: theme, renderer: many ? "canvas" : "svg",
        tooltip: { theme: "headway" },
      });
      drawn.set(name, { view, width });
      view.addEventListener("click", (event, item) => pick(item?.datum));
      box.dataset.drawn = "yes";
      box.style.minHeight = "";
    } catch (error) {
      box.textContent = "This chart could not be drawn; its picture is among the figures' files.";
      console.error(name, error);
    }
  }

  async function update(name) {
    const figure = figures[name], view = drawn.get(name)?.view;
    if (!view) return;
    for (const table of figure.tables) view.data(table, rows(table, chosen(figure)));
    if (figure.top) view.signal("top", colourTop(figure));
    await view.runAsync();
    document.querySelector(`[data-chart="${CSS.escape(name)}"]`).dataset.shows = JSON.stringify(chosen(figure));
  }

  /* ---- the reader's choices ---- */
  function choices(figure, control) {
    const before = figure.controls.slice(0, figure.controls.indexOf(control));
    const wanted = Object.fromEntries(before.map((c) => [c.column, state.get(figure.name)[c.column]]));
    const table = tables[figure.tables[0]];
    return [...new Set(indices(table, wanted).map((i) => cell(table[control.column], i)))];
  }

  const shown = (value) => (typeof value === "number" ? value.toLocaleString("en") : value);

  function controls(figure) {
    const box = document.querySelector(`[data-controls="${CSS.escape(figure.name)}"]`);
    if (!box) return;
    const redo = [];
    figure.controls.forEach((control, place) => {
      const label = document.createElement("label");
      const text = document.createElement("span");
      text.textContent = control.label;
      const input = document.createElement(control.slider ? "input" : "select");
      const output = document.createElement("output");
      if (control.slider) input.type = "range";
      label.append(text, input);
      if (control.slider) label.append(output);
      box.append(label);
      let values = [];
      redo.push(() => {
        values = choices(figure, control);
        const mine = state.get(figure.name);
        if (!values.includes(mine[control.column])) mine[control.column] = values[values.length >> 1];
        const at = values.indexOf(mine[control.column]);
        if (control.slider) {
          Object.assign(input, { min: 0, max: values.length - 1, step: 1, value: at });
          output.textContent = shown(values[at]);
          input.setAttribute("aria-valuetext", shown(values[at]));
        } else {
          input.replaceChildren(...values.map((value) => new Option(shown(value))));
          input.selectedIndex = at;
        }
      });
      input.addEventListener("input", () => {
        state.get(figure.name)[control.column] = values[control.slider ? Number(input.value) : input.selectedIndex];
        redo.slice(place).forEach((again) => again());
        update(figure.name);
      });
    });
    redo.forEach((again) => again());
  }

  /* ---- singling out a size or a seed, in all figures at once ---- */
  function pick(datum) {
    if (!datum) return;
    const same = ["size", "seed"].every((key) => !(key in datum) || datum[key] == null || focus[key] === datum[key]);
    single(Object.fromEntries(["size", "seed"].filter((key) => datum[key] != null).map((key) => [key, same ? "" : datum[key]])));
  }

  function single(change) {
    Object.assign(focus, change);
    for (const select of document.querySelectorAll("[data-focus]")) select.value = focus[select.dataset.focus];
    for (const button of document.querySelectorAll("[data-size]")) button.setAttribute("aria-pressed", String(focus.size === button.dataset.size));
    document.body.classList.toggle("focused", Boolean(focus.size || focus.seed));
    for (const [name, { view }] of drawn) {
      if (!view || !(figures[name].spec.params ?? []).some((param) => param.name === "focus_size")) continue;
      view.signal("focus_size", focus.size).signal("focus_seed", focus.seed).runAsync();
    }
  }

  for (const select of document.querySelectorAll("[data-focus]")) {
    select.addEventListener("change", () => single({ [select.dataset.focus]: select.value }));
  }
  for (const button of document.querySelectorAll("[data-size]")) {
    button.addEventListener("click", () => single({ size: focus.size === button.dataset.size ? "" : button.dataset.size }));
  }
  for (const button of document.querySelectorAll("[data-focus-clear]")) {
    button.addEventListener("click", () => single({ size: "", seed: "" }));
  }

  /* ---- saving a figure as it stands ---- */
  function save(href, name) {
    const link = document.createElement("a");
    Object.assign(link, { href, download: name });
    link.click();
  }

  function csv(figure) {
    const quoted = (value) => (value === null ? "" : /[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
    const blocks = figure.tables.map((name) => {
      const names = Object.keys(tables[name]);
      return [names, ...rows(name, chosen(figure)).map((row) => names.map((key) => quoted(row[key])))].map((line) => line.join(",")).join("\n");
    });
    return blocks.join("\n\n");
  }

  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", async () => {
      const name = button.closest("figure").dataset.figure, kind = button.dataset.save;
      const asText = (text, type) => URL.createObjectURL(new Blob([text], { type }));
      if (kind === "csv") return save(asText(csv(figures[name]), "text/csv"), `${name}.csv`);
      await draw(name);
      const view = drawn.get(name).view;
      if (kind === "svg") return save(asText(await view.toSVG(), "image/svg+xml"), `${name}.svg`);
      return save(await view.toImageURL("png", 2), `${name}.png`);
    });
  }

  /* ---- drawing: what is near the window at once, the rest when there is time ---- */
  for (const figure of Object.values(figures)) {
    state.set(figure.name, Object.fromEntries(figure.controls.map((control) => [control.column, control.default])));
    controls(figure);
  }
  const boxes = [...document.querySelectorAll("[data-chart]")];
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) draw(entry.target.dataset.chart);
  }, { rootMargin: "800px" });
  boxes.forEach((box) => near.observe(box));

  if (innerWidth < 1088) document.querySelector("nav.contents details").open = false;

  const whenIdle = window.requestIdleCallback ?? ((work) => setTimeout(work, 50));
  (function rest() {
    const box = boxes.find((one) => !drawn.has(one.dataset.chart) && !one.closest("details.folded:not([open])"));
    if (box) draw(box.dataset.chart).then(() => whenIdle(rest));
    else document.body.dataset.ready = "yes";
  })();

  let waiting;
  const redraw = () => drawn.forEach((_, name) => draw(name));
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(redraw, 150); });
  dark.addEventListener("change", () => { drawn.forEach((one) => { one.width = 0; }); redraw(); });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
