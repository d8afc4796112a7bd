"""Ray's side of training: the coordinator that is asked for leaves, its workers, and the client of the driver."""
