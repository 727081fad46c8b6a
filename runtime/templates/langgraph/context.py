from collections.abc import Mapping


def labelled(results: Mapping[str, str]) -> str:
    """What earlier steps made, for the prompt of a later one; empty when there is nothing."""
    if not results:
        return ""
    blocks = (f'<result of="{name}">\n{text}\n</result>' for name, text in results.items())
    return "# Results so far\n" + "\n".join(blocks)


def sections(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
