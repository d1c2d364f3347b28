"""Plants one bug: copies the tree's sources and replaces a text that must be there exactly once.

Usage: plant.py TREE [COPY] FILE.mutation; prints the test that must fail. Without COPY it only checks that the bug can be
planted. Files are written only where they differ, so that nothing is built twice.
"""

import pathlib
import subprocess
import sys


def sections(path):
    """`@@ name` lines head sections; what stands above the first says what the bug breaks."""
    found, name = {"": []}, ""
    for line in path.read_text().splitlines():
        if line.startswith("@@ "):
            name = line[3:].strip()
            found[name] = []
        else:
            found[name].append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def plant(tree, copy, mutation):
    parts = sections(mutation)
    missing = {"file", "test", "old", "new"} - parts.keys()
    if missing or not parts[""].strip():
        sys.exit(f"{mutation}: it lacks {', '.join(sorted(missing)) or 'a sentence on what it breaks'}")
    target = parts["file"].strip()
    text = (tree / target).read_text()
    found = text.count(parts["old"])
    if found != 1:
        sys.exit(f"{mutation}: its old text is {found} times in {target}, not once")
    if copy is None:
        return
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=tree, check=True, text=True,
                             capture_output=True).stdout.split("\n")
    wanted = {name for name in tracked if name and not name.startswith("crates/core/fuzz") and (tree / name).is_file()}
    for name in wanted:
        content = (tree / name).read_bytes()
        if name == target:
            content = text.replace(parts["old"], parts["new"]).encode()
        place = copy / name
        if not place.exists() or place.read_bytes() != content:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    for place in copy.rglob("*.rs"):
        if str(place.relative_to(copy)) not in wanted:
            place.unlink()
    print(parts["test"].strip())


tree, *copy, mutation = map(pathlib.Path, sys.argv[1:])
plant(tree, copy[0] if copy else None, mutation)
