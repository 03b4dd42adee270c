"""Counted checks; the first that does not hold ends the program."""
passed = 0


def check(condition, what):
    """Counts, or ends the scenario."""
    global passed
    if not condition:
        raise SystemExit(f"not ok: {what}")
    passed += 1
    print("ok", what)
