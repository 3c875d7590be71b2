"""`python -m harness_plugin ...` is `lm_eval ...` with this package plugged in.

For places where the start-up hook cannot run: `pip install --target`, a plain PYTHONPATH, `python -S`, or where it is
switched off. It must not know any of lm-eval's options.
"""

from harness_plugin import _bridge


def main() -> None:
    """Run lm-eval's own command line on this process's arguments; it exits as lm-eval does."""
    _bridge.install(asked=True)
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
