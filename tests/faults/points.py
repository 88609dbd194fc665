"""Names of the points at which `crashing` ends a worker, in the order a value passes them."""

PARSE = "parse"
BEFORE_PRODUCE = "before-produce"
PRODUCED = "produced-not-replied"
POLLED = "polled-not-applied"
APPLIED = "applied-not-flushed"
ROWS_SENT = "some-rows-sent"
ALL_ROWS_SENT = "rows-sent-not-place"
CHECKPOINT_SENT = "place-sent-not-written"
WRITTEN = "written-not-acknowledged"
ACKNOWLEDGED = "acknowledged-not-committed"
ASSIGNED = "assigned"
RESTORING = "restoring"
EXPIRING = "expiring"

RUNNING = (
    PARSE,
    BEFORE_PRODUCE,
    PRODUCED,
    POLLED,
    APPLIED,
    ROWS_SENT,
    ALL_ROWS_SENT,
    CHECKPOINT_SENT,
    WRITTEN,
    ACKNOWLEDGED,
)  # passed all the time under load
STARTING = (ASSIGNED, RESTORING, EXPIRING)  # passed when a worker starts
TELLING = (PRODUCED, ALL_ROWS_SENT, CHECKPOINT_SENT)  # where most goes wrong when something does
