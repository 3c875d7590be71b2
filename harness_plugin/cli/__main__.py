"""`python -m harness_plugin.cli ...` is `arena-rm ...`, for launchers that start a module on every device."""

from harness_plugin.cli import main

if __name__ == "__main__":
    main()
