"""Which model a server has: the name that requests carry, and that identifies the judge."""

from harness_plugin.errors import ModelError, UsageError
from harness_plugin.judges.served.client import Client


def served_model(client: Client, named: str | None) -> str:
    """The name that the user gives after #, else that of the only model that the server lists. Raises UsageError for a
    server with several, and ModelError for one that lists none: without a name, the answers of two models could not be
    told apart."""
    if named is not None:
        return named
    listed = (client.get("/v1/models") or {}).get("data")
    names = [row.get("id") for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    known = list(dict.fromkeys(name for name in names if isinstance(name, str)))
    if len(known) > 1:
        raise UsageError(
            f"{client.url} serves {', '.join(known[:5])}", "the judge is one of them", "name it after the URL: #MODEL"
        )
    if not known:
        raise ModelError(
            f"{client.url}/v1/models does not say which model the server has",
            "a judge is identified by its model's name",
            "check the URL and that the server runs there, or name the model after the URL: #MODEL",
        )
    return known[0]
