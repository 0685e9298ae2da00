"""The learner, its runs and their reports, and the front doors to them."""

from reconverge.process import end_at_once_while_imported

end_at_once_while_imported()
