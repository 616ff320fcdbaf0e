"""Answers JMESPath cases as the package from PyPI does; in and out as oracle.mjs.

    python3 oracle.py <folder of the packages>
"""

import json
import sys

sys.path.insert(0, sys.argv[1])

import jmespath
from jmespath.exceptions import JMESPathError


def end(program, value):
    try:
        compiled = jmespath.compile(program)
    except JMESPathError:
        return {"error": "compile"}
    try:
        return {"value": compiled.search(value)}
    except Exception:  # some failures are not its own
        return {"error": "runtime"}


cases = json.load(sys.stdin)
json.dump([end(program, value) for program, value in cases], sys.stdout)
