"""The address of an endpoint in one spelling, without anything secret in it."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["base_address"]

_DEFAULT_PORTS = {"http": 80, "https": 443}


def base_address(base_url: str) -> str:
    """The address without trailing slash or default port; ValueError where it holds credentials or a query.

    >>> base_address("HTTPS://API.openai.com:443/v1/")
    'https://api.openai.com/v1'
    """
    parts = urlsplit(base_url.strip())
    scheme, host = parts.scheme.lower(), parts.hostname
    if scheme not in _DEFAULT_PORTS or not host:
        raise ValueError("base_url must be an http(s) address such as https://api.openai.com/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"base_url of {host} must hold no credentials, query or fragment; name the key's variable")
    shown = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port not in (None, _DEFAULT_PORTS[scheme]) else ""
    return f"{scheme}://{shown}{port}{parts.path.rstrip('/')}"
