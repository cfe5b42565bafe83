"""The command `penjing`: checks the surroundings, then hands over to the command line proper."""

import sys

from penjing.surroundings import ShadowedFolderError, require_own_folders


def main() -> None:
    """Run the command line; exit codes 0, 1 (failed), 2 (bad input), 130 (interrupted), 143 (SIGTERM)."""
    try:
        require_own_folders()
    except ShadowedFolderError as error:
        print(f"penjing: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    from penjing.termination import heed_termination
    from tools.waiting import wait_patiently

    wait_patiently()
    heed_termination()
    from penjing.commands import app

    app(prog_name="penjing")


if __name__ == "__main__":
    main()
