"""`python -m llmlab.cli`, where the installed command is not on the path."""

from llmlab.cli import main

if __name__ == "__main__":
    main()
