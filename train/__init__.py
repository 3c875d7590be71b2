"""Training of preference judges: config, data, loss, loop and manifest. Run as `arena-rm train CONFIG`."""
