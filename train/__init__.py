"""Training of preference judges: config, data, loss, loop and record. The command is `arena-rm train RECIPE`."""
