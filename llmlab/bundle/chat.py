"""Chat histories and pictures: values of a case that go into a prompt whole, as messages or parts of one.

`prompt` splices them in where a template has `{{ history }}` or `{{ picture }}`; `golden.cases` reads them from files.
"""

from __future__ import annotations

import base64
import json
import mimetypes
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from llmlab.base.project import inside_experiment
from llmlab.bundle.template import Inserted

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
PARTS = {"text": str, "image_url": Mapping, "input_audio": Mapping, "file": Mapping}  # kind -> what it holds
_LARGEST_PICTURE_BYTES = 5_000_000
_MEDIA = re.compile(r"data:([\w.+-]+/[\w.+-]+)[\w;=.-]*?;base64,([A-Za-z0-9+/=]{200,})")


def is_chat(value: Any) -> TypeGuard[Sequence[Mapping[str, Any]]]:
    """Whether this is a list of chat messages, at least one.

    >>> is_chat([{"role": "user", "content": "Hi"}]), is_chat([]), is_chat([{"role": "admin"}])
    (True, False, False)
    """
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(isinstance(turn, Mapping) and turn.get("role") in _ROLES and "content" in turn for turn in value)
    )


def is_parts(value: Any) -> TypeGuard[Sequence[Mapping[str, Any]]]:
    """Whether this is a list of parts of a message as OpenAI writes them, at least one.

    >>> is_parts([{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}])
    True
    """
    return isinstance(value, (list, tuple)) and bool(value) and all(map(_is_part, value))


def turns(pieces: Iterable[str]) -> list[dict[str, Any]]:
    """The messages of a filled template: a history as it is, then what the user says, with its pictures.

    Raises:
        ValueError: text stands before a history.
    """
    messages: list[dict[str, Any]] = []
    content: list[Any] = []
    has_history = False
    for piece in pieces:
        value = piece.value if isinstance(piece, Inserted) else None
        begins = not "".join(part for part in content if isinstance(part, str)).strip()
        is_first = value in ((), []) and begins and not has_history  # a first question has an empty history
        history = value if is_chat(value) else () if is_first else None
        if history is not None:
            if not begins:
                raise ValueError("a chat history begins the template; what stands before it belongs into `system`")
            messages, content, has_history = [*messages, *map(_plain, history)], [], True
        elif _is_part(value) or is_parts(value):
            content += [_plain(part) for part in ([value] if isinstance(value, Mapping) else value)]
        else:
            content.append(str(piece))
    if not has_history and all(isinstance(part, str) for part in content):
        return [{"role": "user", "content": "".join(content)}]
    user_content = _merged(content)
    return [*messages, {"role": "user", "content": user_content}] if user_content else messages


def of_messages(messages: Any) -> dict[str, Any]:
    """The inputs `history` and `question` of a conversation that ends with the user's words; ValueError for another.

    >>> of_messages([{"role": "user", "content": "Hi"}])
    {'history': [], 'question': 'Hi'}
    """
    if not is_chat(messages):
        raise ValueError(f"messages must be a list of {{role, content}}, a role one of {', '.join(sorted(_ROLES))}")
    last = messages[-1]
    if last["role"] != "user" or not (isinstance(last["content"], str) or is_parts(last["content"])):
        raise ValueError("messages must end with the user's words; what should be answered is `expected`")
    return {"history": list(messages[:-1]), "question": last["content"]}


def said(value: Any) -> str:
    """A value of a case as a person reads it: a text, a conversation, the text and names of its parts, or JSON.

    >>> said([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}])
    'user: Hi\\nassistant: Hello'
    """
    if isinstance(value, str):
        return short_media(value)
    if is_chat(value):
        return "\n".join(f"{turn['role']}: {said(turn['content'] or turn.get('tool_calls', ''))}" for turn in value)
    if is_parts(value):
        return " ".join(part["text"] if part["type"] == "text" else f"[{_named(part)}]" for part in value)
    return f"[{_named(value)}]" if _is_part(value) else short_media(json.dumps(value, ensure_ascii=False))


def short_media(text: str) -> str:
    """A text with pictures and files inside named by kind and size.

    >>> short_media("data:image/png;base64," + "A" * 4000)
    'data:image/png (3,000 bytes)'
    """
    if ";base64," not in text:
        return text
    return _MEDIA.sub(lambda match: f"data:{match[1]} ({len(match[2].rstrip('=')) * 3 // 4:,} bytes)", text)


def with_pictures(value: Any, folder: Path) -> Any:
    """A JSON value of a file in `folder`, with the pictures that it names by path put in.

    Raises:
        ValueError: a picture is missing, leaves the folder, or is none, or larger than 5 MB.
    """
    if isinstance(value, Mapping):
        if _is_part(value) and value["type"] == "image_url":
            picture = value["image_url"]
            return {**value, "image_url": {**picture, "url": _address(picture.get("url"), folder)}}
        return {name: with_pictures(item, folder) for name, item in value.items()}
    return [with_pictures(item, folder) for item in value] if isinstance(value, list) else value


def _address(url: Any, folder: Path) -> str:
    if not isinstance(url, str) or not url:
        raise ValueError(f"image_url.url == {url!r}, must be an address or a path")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", url):
        return url
    path, kind = inside_experiment(url, folder), mimetypes.guess_type(url)[0] or ""
    if not kind.startswith("image/"):
        raise ValueError(f"image_url.url == {url!r}, must end as pictures do (.png, .jpg, .webp, .gif)")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"the picture {url!r} cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST_PICTURE_BYTES:
        raise ValueError(f"the picture {url!r} has {len(content):,} bytes, the limit is {_LARGEST_PICTURE_BYTES:,}")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _is_part(value: Any) -> TypeGuard[Mapping[str, Any]]:
    kind = value.get("type") if isinstance(value, Mapping) else None
    return isinstance(kind, str) and kind in PARTS and isinstance(value.get(kind), PARTS[kind])


def _named(part: Mapping[str, Any]) -> str:
    body = part[part["type"]]
    return short_media(str(body.get("url") or body.get("filename") or part["type"])) if part["type"] != "text" else body


def _merged(content: Sequence[Any]) -> Any:
    """A text where there is nothing else, or a list of parts; texts lose the line ends at which they were cut."""
    parts: list[dict[str, Any]] = []
    for part in content:
        if not isinstance(part, str):
            parts.append(part)
        elif parts and parts[-1].get("cut"):
            parts[-1]["text"] += part
        else:
            parts.append({"type": "text", "text": part, "cut": True})
    cut = [{**part, "text": part["text"].strip("\r\n")} if part.pop("cut", False) else part for part in parts]
    parts = [part for part in cut if part["type"] != "text" or part["text"].strip()]
    return parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
