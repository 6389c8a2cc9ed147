"""Why goals are missed, as RESULTS.md says it below them."""

from typing import Final

FRAMES: Final = """\
A loop by hand with all the tricks, made safe, in one function, is the last rung of the ladder. What ours takes on top
is the price of being written in 25 functions: entering them and reaching for attributes, as the table of instructions
has it. Of AdamW's step the kernels are a larger part, so less of it can be left out."""
CONTEXTS: Final = """\
The same, and what hooks are given: two contexts and two `Progress` records a batch, frozen, with the batch, the output
and the loss detached. It is paid once, by the first hook on each of the two events; a hook more costs a call."""
FILES: Final = """\
Rows are formatted on both sides, and with a row for each batch that is a large part of the step. Ours opens, writes and
closes the file for each row, so that it may be cut back to a checkpoint at any time; by hand it stays open."""
IMPORT: Final = """\
A full collection of garbage, over all that torch has just made, is due soon after torch's own import and mostly falls
into ours: that is most of the difference to the row without a collector. The rest is attrs building a hundred classes;
what reads data, keeps stores and guards is loaded when it is used."""
COPIES: Final = """\
Naming and describing each of the 192 tensors takes its time however small they are; where memory is quick, the copy
that it is compared with is short."""
WAITS: Final = """\
A step of two processes is nearly all waiting for the other one. The processes agree on the sum of the weights of each
update, which DDP does not do, and which is what makes every item count alike: one more sum, of four numbers, begun
before the last backward."""
