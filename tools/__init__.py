"""Front doors beside training: demonstrations, results, benchmarks."""

from reconverge.process import end_at_once_while_imported

end_at_once_while_imported()
