"""Training of preference judges: config, data, loss, run and record. The command is `arena-rm train RECIPE`."""
