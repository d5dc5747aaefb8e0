"""An agent that knows only the old contract: HTTP for its tenant and its credentials, NATS by user
and password, core subscriptions, no acknowledgements. Its one concession is the device token.

    python -m tests.support.agents.seed_agent SERVER DEVICE_UUID DEVICE_TOKEN
"""

import asyncio
import json
import sys
import time
import urllib.request
import uuid

import nats
from nats.aio.msg import Msg

HEARTBEAT_SECONDS = 1.0


class SeedAgent:
    def __init__(self, server: str, device_uuid: str, device_token: str) -> None:
        self.server = server
        self.device_uuid = device_uuid
        self.device_token = device_token
        self.session_id = str(uuid.uuid4())

    def get(self, path: str) -> dict:
        request = urllib.request.Request(
            self.server + path.format(self.device_uuid),
            headers={"Authorization": f"Bearer {self.device_token}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    async def run(self) -> None:
        tenant = await asyncio.to_thread(self.get, "/api/device/{}/tenant")
        self.prefix = f"tenant.{tenant['tenant_uuid']}.device.{self.device_uuid}"
        answer = await asyncio.to_thread(self.get, "/api/nats/device/{}/credentials")
        credentials = answer["credentials"]
        self.client = await nats.connect(
            tenant["nats_server"],
            user=credentials["username"],
            password=credentials["password"],
            name=f"nats_persistent_agent_{self.device_uuid}",
            max_reconnect_attempts=-1,
        )
        await self.client.subscribe(f"{self.prefix}.command", cb=self.handle_command)
        while True:
            await self.heartbeat()
            await self.metric("cpu_percent", 12.5)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def handle_command(self, message: Msg) -> None:
        payload = json.loads(message.data)["payload"]
        result = {"status": "success", "result": f"ran {payload['command']}"}
        await self.send("response", {"command_id": payload["command_id"], "result": result})

    async def heartbeat(self) -> None:
        await self.send(
            "status.heartbeat",
            {
                "session_id": self.session_id,
                "agent_version": "seed-1.0",
                "system_info": {"hostname": "old-one", "platform": "Linux"},
                "status": {"uptime": 1},
            },
        )

    async def metric(self, name: str, value: float) -> None:
        subject = f"demo.system.{self.device_uuid}.{name}"
        body = {"metric_type": name, "value": value, "timestamp": time.time()}
        await self.client.publish(subject, json.dumps(body).encode())

    async def send(self, kind: str, body: dict) -> None:
        body["timestamp"] = time.time()
        await self.client.publish(f"{self.prefix}.{kind}", json.dumps(body).encode())


if __name__ == "__main__":
    asyncio.run(SeedAgent(*sys.argv[1:4]).run())
