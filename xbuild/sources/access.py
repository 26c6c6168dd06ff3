"""How addresses are reached beyond what the environment says: certificates, hosts that are trusted, a proxy."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from urllib.request import OpenerDirector


class AccessError(Exception):
    """A file that is named cannot be used. The text says why."""


@dataclass(frozen=True)
class Access:
    """certificates: a file or a directory of those that are trusted, in the place of the system's. client: a file with
    one's own certificate and its key. trusted: NAME or NAME:PORT of servers whose certificate is not looked at. proxy:
    its address. All as pip's settings cert, client-cert, trusted-host and proxy; empty: as without them.
    """

    certificates: str = ""
    client: str = ""
    trusted: tuple[str, ...] = ()
    proxy: str = ""

    def opener(self) -> OpenerDirector:
        """What opens addresses. Raises AccessError."""
        # Only here: they take long to load.
        import http.client
        import ssl
        import urllib.request

        context, blind = self._context(), ssl.create_default_context()
        blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE

        class Chosen(urllib.request.HTTPSHandler):
            # Asked anew for each address: one that is trusted may lead to another server.
            def https_open(handler, request: urllib.request.Request) -> http.client.HTTPResponse:
                chosen = blind if self.trusts(request.full_url) else context
                return handler.do_open(http.client.HTTPSConnection, request, context=chosen)

        handlers: list[urllib.request.BaseHandler] = [Chosen(context=context)]
        if self.proxy:
            whole = self.proxy if "://" in self.proxy else f"http://{self.proxy}"
            handlers.append(urllib.request.ProxyHandler({"http": whole, "https": whole}))
        return urllib.request.build_opener(*handlers)

    def trusts(self, address: str) -> bool:
        """Whether the certificate of the server at `address` is not looked at."""
        parts = urllib.parse.urlsplit(address)
        return bool({parts.hostname, f"{parts.hostname}:{parts.port}"} & {word.lower() for word in self.trusted})

    def _context(self) -> ssl.SSLContext:
        import ssl

        place = Path(self.certificates).expanduser() if self.certificates else None
        try:
            context = ssl.create_default_context(
                cafile=str(place) if place and not place.is_dir() else None,
                capath=str(place) if place and place.is_dir() else None,
            )
            if self.client:
                context.load_cert_chain(Path(self.client).expanduser())
        except (OSError, ValueError) as error:
            named = " or ".join(filter(None, [self.certificates, self.client]))
            raise AccessError(f"the certificates that pip is set to use cannot be read: {named}: {error}") from error
        return context
