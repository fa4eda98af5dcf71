"""``python -m fewlabels COMMAND ...``, as ``fewlabels COMMAND ...``."""

from fewlabels.commands import main

if __name__ == "__main__":
    main()
