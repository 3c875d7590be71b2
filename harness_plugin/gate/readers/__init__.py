"""What the gate reads: one file for each kind of stored run; `read` tells them apart."""
