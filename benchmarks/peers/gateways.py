"""How each gateway is told to read the farm's devices, and started."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REGISTERS = 100
CACHE = Path(__file__).resolve().parents[2] / ".cache" / "peers"
SITE = "bench/plant"

THINGSBOARD = "thingsboard-gateway==3.8.5"
# The Modbus nodes name a package by an address outside the registry; its upstream on npm takes its place.
NODE_RED = {
    "private": True,
    "dependencies": {"node-red": "4.1.15", "node-red-contrib-modbus": "5.60.2"},
    "overrides": {"@openp4nr/modbus-serial": "npm:modbus-serial@8.0.21"},
}


def install_thingsboard() -> None:
    """Install ThingsBoard Gateway into a folder of its own. Raises subprocess.CalledProcessError."""
    folder = CACHE / "thingsboard"
    if not (folder / "done").exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        uv = CACHE.parents[1] / ".tools" / "bin" / "uv"
        command = [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", THINGSBOARD]
        subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=300)
        (folder / "done").touch()


def install_node_red() -> None:
    """Install Node-RED with its Modbus nodes. Raises subprocess.CalledProcessError."""
    folder = CACHE / "node-red"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text(json.dumps(NODE_RED))
        npm = shutil.which("npm") or "npm"
        command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
        (folder / "done").touch()


def start_thingsboard(folder: Path, ports: Sequence[int], every_ms: int, broker_port: int) -> subprocess.Popen[bytes]:
    """Start ThingsBoard Gateway with its store in SQLite."""
    general = {
        "thingsboard": {
            "host": "127.0.0.1",
            "port": broker_port,
            "remoteShell": False,
            "remoteConfiguration": False,
            "statistics": {"enable": False},
            "maxPayloadSizeBytes": 65_000,
            "minPackSendDelayMS": 50,
            "minPackSizeToSend": 500,
            "security": {"type": "accessToken", "accessToken": "bench"},
            "qos": 1,
            "rateLimits": "0:0,",
            "dpRateLimits": "0:0,",
            "messagesRateLimits": "0:0,",
            "deviceMessagesRateLimits": "0:0,",
            "deviceRateLimits": "0:0,",
            "deviceDpRateLimits": "0:0,",
        },
        "storage": {"type": "sqlite", "data_file_path": str(folder / "data.db"), "max_read_records_count": 1000},
        "connectors": [{"type": "modbus", "name": "Modbus", "configuration": "modbus.json"}],
    }
    series = [
        {"tag": f"r{n}", "type": "16uint", "address": n, "objectsCount": 1, "functionCode": 3} for n in range(REGISTERS)
    ]
    slaves = [
        {
            "host": "127.0.0.1",
            "port": port,
            "type": "tcp",
            "method": "socket",
            "unitId": 1,
            "deviceName": f"d{number:04d}",
            "deviceType": "default",
            "timeout": 5,
            "byteOrder": "BIG",
            "wordOrder": "BIG",
            "pollPeriod": every_ms,
            "timeseries": series,
            "attributes": [],
        }
        for number, port in enumerate(ports)
    ]
    (folder / "tb_gateway.json").write_text(json.dumps(general))
    (folder / "modbus.json").write_text(json.dumps({"master": {"slaves": slaves}}))
    (folder / "logs.json").write_text(
        json.dumps(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "handlers": {"out": {"class": "logging.StreamHandler", "level": "ERROR"}},
                "loggers": {},
                "root": {"level": "ERROR", "handlers": ["out"]},
            }
        )
    )
    return _start(
        folder,
        [CACHE / "thingsboard" / "bin" / "thingsboard-gateway"],
        {"TB_GW_CONFIG_DIR": f"{folder}/", "TB_GW_LOGS_PATH": str(folder)},
    )


def start_node_red(folder: Path, ports: Sequence[int], every_ms: int, broker_port: int) -> subprocess.Popen[bytes]:
    """Start Node-RED with one Modbus read node a device, whose answer goes to an MQTT node."""
    flow: list[dict[str, object]] = [
        {"id": "tab", "type": "tab", "label": "bench"},
        {"id": "broker", "type": "mqtt-broker", "broker": "127.0.0.1", "port": broker_port, "clientid": "", "z": "",
         "usetls": False, "protocolVersion": "4", "keepalive": "60", "cleansession": True, "autoConnect": True},
        {"id": "out", "type": "mqtt out", "z": "tab", "topic": "", "qos": "1", "retain": "false", "broker": "broker",
         "wires": []},
    ]  # fmt: skip
    for number, port in enumerate(ports):
        client = f"client{number}"
        flow += [
            {"id": client, "type": "modbus-client", "name": "", "clienttype": "tcp", "bufferCommands": True,
             "stateLogEnabled": False, "queueLogEnabled": False, "tcpHost": "127.0.0.1", "tcpPort": port,
             "tcpType": "DEFAULT", "unit_id": 1, "commandDelay": 1, "clientTimeout": 2000, "reconnectOnTimeout": True,
             "reconnectTimeout": 2000, "parallelUnitIdsAllowed": True},
            {"id": f"read{number}", "type": "modbus-read", "z": "tab", "name": "", "topic": f"nr/d{number:04d}",
             "showStatusActivities": False, "logIOActivities": False, "showErrors": False, "unitid": "1",
             "dataType": "HoldingRegister", "adr": "0", "quantity": str(REGISTERS), "rate": str(every_ms),
             "rateUnit": "ms",
             "delayOnStart": False, "startDelayTime": "", "server": client, "useIOFile": False, "ioFile": "",
             "useIOForPayload": False, "emptyMsgOnFail": False, "wires": [["out"], []]},
        ]  # fmt: skip
    (folder / "flow.json").write_text(json.dumps(flow))
    (folder / "settings.js").write_text(
        "module.exports = {uiHost: '127.0.0.1', uiPort: 0, httpAdminRoot: false, httpNodeRoot: false,"
        " diagnostics: {enabled: false}, telemetry: {enabled: false}, logging: {console: {level: 'warn'}},"
        f" nodesDir: {json.dumps(str(CACHE / 'node-red' / 'node_modules' / 'node-red-contrib-modbus'))}}};"
    )
    command = [CACHE / "node-red" / "node_modules" / ".bin" / "node-red", "-u", folder, "-s", folder / "settings.js"]
    return _start(folder, [*command, folder / "flow.json"], {})


def start_yulink(folder: Path, ports: Sequence[int], every_ms: int, broker_port: int) -> subprocess.Popen[bytes]:
    """Start our agent: durable log, sealed for the brain in `folder`/pki, mutual TLS."""
    devices = "".join(
        f"  d{number:04d}:\n    modbus: tcp://127.0.0.1:{port}\n    tags:\n"
        f'      "r{{0..{REGISTERS - 1}}}": {{at: holding/0, type: u16}}\n'
        for number, port in enumerate(ports)
    )
    (folder / "plant.yaml").write_text(
        f"site: {SITE}\nevery: {every_ms}ms\ndevices:\n{devices}uplink:\n  mqtt: mqtts://127.0.0.1:{broker_port}\n"
        "  identity: pki/gateway.pem\n  ca: pki/ca.pem\n  seal_to: pki/brain.pub\n"
    )
    return _start(folder, [sys.executable, "-m", "edge.agent.cli", "run", "plant.yaml", "--data-dir", "data"], {})


def _start(folder: Path, command: Sequence[object], more: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / "gateway.log").open("wb") as log:
        return subprocess.Popen(
            list(map(str, command)), cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | more
        )
