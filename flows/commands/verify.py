"""Look through everything that this project holds for damage, and heal it.

python -m flows.commands.verify [--heal] [--remote] [--json]
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from flows import environment
from flows.custody.walk import Mended, heal, heal_elsewhere, look, look_elsewhere
from flows.dag import workspace
from flows.talk import failed
from slipway.errors import SlipwayError


@dataclass(frozen=True)
class Inspection:
    """What was found, and whether anything is left of it."""

    mended: tuple[Mended, ...]
    healed: bool

    @property
    def left(self) -> int:
        """How many pieces of damage are still there."""
        return sum(self._is_left(each) for each in self.mended)

    def lines(self) -> list[str]:
        """Say it to people."""
        if not self.mended:
            return ["no damage: all that this project holds is as it was written"]
        lines = []
        for each in self.mended:
            damage = each.damage
            lines.append(f"{damage.kind:10} {damage.place}: {damage.problem}")
            lines.append(f"{'':10} {self._cure(each)}")
        left = (
            f"{self.left} left" if self.healed else "slipway verify --all --heal mends what it can"
        )
        return [*lines, f"{len(self.mended)} damaged; {left}"]

    def to_dict(self) -> dict[str, object]:
        """Say it to machines."""
        return {
            "damaged": [
                {
                    "kind": each.damage.kind,
                    "place": each.damage.place,
                    "problem": each.damage.problem,
                    "cure": each.damage.cure,
                    "heals": each.damage.mend is not None,
                    "left": each.left,
                }
                for each in self.mended
            ],
            "left": self.left,
        }

    def _cure(self, each: Mended) -> str:
        if not self.healed:
            return each.damage.cure
        if each.damage.mend is None:
            return f"not healed: {each.damage.cure}"
        return f"healed{f'; {each.left}' if each.left else ''}"

    def _is_left(self, each: Mended) -> bool:
        return not self.healed or each.damage.mend is None


def main(argv: list[str]) -> int:
    """Return 0 where nothing is damaged any more, else 1."""
    parser = argparse.ArgumentParser(prog="python -m flows.commands.verify", description=__doc__)
    parser.add_argument("--heal", action="store_true", help="mend what can be mended from here")
    parser.add_argument("--remote", action="store_true", help="read all of DVC's remote, too")
    parser.add_argument("--json", action="store_true", help="write the result as JSON")
    options = parser.parse_args(argv)
    root = Path.cwd()
    environment.be_discreet()
    try:
        with workspace.only_run(root, _say):  # a stage that runs is half-written, not damaged
            found = _inspect(root, options)
    except KeyboardInterrupt:
        return 130
    except (SlipwayError, OSError) as error:
        return failed(error)
    inspection = Inspection(tuple(found), options.heal)
    print(
        json.dumps(inspection.to_dict(), indent=2)
        if options.json
        else "\n".join(inspection.lines())
    )
    return 1 if inspection.left else 0


def _inspect(root: Path, options: argparse.Namespace) -> list[Mended]:
    if options.heal:
        return [*heal(root), *(heal_elsewhere(root, _say) if options.remote else ())]
    found = [*look(root), *(look_elsewhere(root, _say) if options.remote else ())]
    return [Mended(each) for each in found]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
