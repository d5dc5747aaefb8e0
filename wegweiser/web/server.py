"""daphne's server with our connections in it."""

from typing import Any

import daphne.server
from daphne.endpoints import build_endpoint_description_strings

from wegweiser.web.http import Channel
from wegweiser.web.websocket import MAX_FRAME_BYTES, WebSocket


class Server(daphne.server.Server):
    def __init__(self, application: Any, *, host: str, port: int) -> None:
        super().__init__(
            application,
            endpoints=build_endpoint_description_strings(host=host, port=port),
            websocket_connect_timeout=5,
            websocket_max_frame_size=MAX_FRAME_BYTES,
            websocket_max_message_size=MAX_FRAME_BYTES,
            server_name="",
            # daphne makes its factories when it runs; this is called before the first connection.
            ready_callable=self._use_our_protocols,
        )

    def _use_our_protocols(self) -> None:
        self.http_factory.protocol = Channel
        self.ws_factory.protocol = WebSocket
        # A frame that breaks a rule ends in a close code rather than in a reset.
        self.ws_factory.setProtocolOptions(failByDrop=False)

    async def handle_reply(self, protocol: Any, message: Any) -> None:
        """An application that writes faster than its client reads waits for it, so that what one
        client does not read is not kept in memory."""
        await super().handle_reply(protocol, message)
        channel = getattr(protocol.transport, "producer", None)
        if isinstance(channel, Channel):
            await channel.drained()

    def kill_all_applications(self) -> Any:
        """daphne's own falls over connections whose request is not complete."""
        for protocol, details in list(self.connections.items()):
            if "application_instance" not in details:
                del self.connections[protocol]
        return super().kill_all_applications()
