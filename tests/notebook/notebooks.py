"""Small notebooks for tests."""

import nbformat.v4 as v4


def code(source, *tags):
    """A code cell with these tags."""
    return v4.new_code_cell(source, metadata={"tags": list(tags)})


def text(source):
    """A Markdown cell."""
    return v4.new_markdown_cell(source)


def write(path, *cells):
    """The cells as a notebook file."""
    import nbformat

    nbformat.write(v4.new_notebook(cells=list(cells)), path)
    return path
