"""Tables that older releases made are still read."""

import polars as pl
from polars.testing import assert_frame_equal

from headway.studies.development.heads import read_heads
from headway.tables import CHECKPOINT_COLUMNS, TOKENS_SEEN, with_tokens
from support_report import heads_frame


def test_a_heads_table_without_tokens_is_read() -> None:
    frame = heads_frame(sizes=("1m",), seeds=("1",))
    old = frame.drop("tokens_seen")
    assert_frame_equal(
        read_heads(old, "prev_self_ratio").frame, read_heads(frame, "prev_self_ratio").frame, check_column_order=False
    )


def test_tokens_stand_beside_the_step() -> None:
    names = [column.name for column in CHECKPOINT_COLUMNS]
    assert names[names.index("step") + 1] == TOKENS_SEEN.name
    filled = pl.DataFrame({"tokens_seen": [5]})
    assert with_tokens(filled) is filled, "what is there is kept"
