"""Asks for known vulnerabilities of locked requirements. Called by the Makefile: `audit.py PIP_AUDIT REQUIREMENTS`.

Exit code 1 when there is one. A package that could not be looked up is named. Where none could be, because the service
or pip-audit is not there, the last line says NOT AUDITED and the exit code is 0: being offline is no fault of a change.
Anything else that goes wrong is an error: exit code 2.
"""

import json
import subprocess
import sys

UNREACHABLE = ("ConnectionError", "Connection error", "NameResolutionError", "timed out", "Timeout", "ProxyError")
PATIENCE_S = 180


def main(pip_audit: str, requirements: str) -> int:
    """Asks, prints what came of it, and returns the exit code."""
    command = [pip_audit, "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
    try:
        asked = subprocess.run(
            [*command, "--requirement", requirements], capture_output=True, text=True, timeout=PATIENCE_S
        )
    except FileNotFoundError:
        return not_audited(requirements, "pip-audit is not installed")
    except subprocess.TimeoutExpired:
        return not_audited(requirements, f"no answer within {PATIENCE_S} s")
    try:
        found = json.loads(asked.stdout)["dependencies"]
    except (ValueError, KeyError):
        if any(sign in asked.stderr for sign in UNREACHABLE):
            return not_audited(requirements, asked.stderr.strip().splitlines()[-1][:200])
        print(asked.stderr[-2000:], file=sys.stderr)
        return 2
    return told(requirements, found)


def told(requirements: str, found: list[dict]) -> int:
    """Prints what is known of each package and returns the exit code."""
    skipped = [each for each in found if "skip_reason" in each]
    vulnerable = [each for each in found if each.get("vulns")]
    if len(skipped) == len(found):
        return not_audited(requirements, skipped[0]["skip_reason"] if skipped else "there is nothing in it")
    for each in skipped:
        print(f"not audited: {each['name']}: {each['skip_reason']}")
    for each in vulnerable:
        for flaw in each["vulns"]:
            print(
                f"{each['name']} {each['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'none'}"
            )
    print(f"{requirements}: {len(found) - len(skipped)} packages audited, {len(vulnerable)} of them vulnerable")
    return 1 if vulnerable else 0


def not_audited(requirements: str, why: str) -> int:
    """Prints that nobody could be asked."""
    print(f"{requirements}: NOT AUDITED: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
