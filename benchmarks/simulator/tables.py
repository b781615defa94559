"""Numbers and tables as the simulator's report writes them; an absent number is an empty cell."""


def table(header, rows):
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(value):
    """Return a number with two decimals, one from 10 on, none from 100 on."""
    if value is None:
        return ""
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def percent(value):
    """Return a share as whole per cent."""
    return "" if value is None else f"{100 * value:.0f} %"


def p_value(value):
    """Return a p-value."""
    return "" if value is None else ("< 0.001" if value < 0.001 else f"{value:.3f}")


def spread(quartiles, scale=1):
    """Return median and quartiles, of values times `scale`."""
    if quartiles is None:
        return ""
    low, middle, high = (number(scale * value) for value in quartiles)
    return f"{middle} ({low} to {high})"
