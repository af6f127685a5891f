"""What deploy/ says is true of the service: flags, paths, routes, ports and the names of metrics."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from reshelf.config import parse
from reshelf.inference.serving.app import make_app
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.rates import Rates
from reshelf.inference.serving.tenants import Tenants

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def read(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def config() -> ServeConfig:
    return parse(ServeConfig, ["--config", str(DEPLOY / "serve.yaml")])


@pytest.fixture(scope="module")
def kubernetes() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(read("kubernetes.yaml"))}


@pytest.fixture(scope="module")
def routes() -> set[str]:
    class Bare:
        """A service as far as routes need one."""

        config = ServeConfig(Path("model"))
        catalogue: ClassVar[dict[str, Any]] = {}
        metrics = Metrics()

    app = make_app(Bare(), Tenants(), Rates())  # type: ignore[arg-type]
    return set(app.openapi()["paths"])


def test_the_images_start_what_the_config_says(config: ServeConfig) -> None:
    text = read("Dockerfile")
    command = json.loads(re.search(r"^CMD (\[.*\])$", text, re.MULTILINE)[1])  # type: ignore[index]
    assert command == ["serve", "--config", "/app/serve.yaml"]
    assert text.count("COPY deploy/serve.yaml /app/serve.yaml") == 2
    assert f"EXPOSE {config.port}" in text
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for found in re.findall(r'"/src\[([^]]*)\]"', text):
        assert set(found.split(",")) <= set(extras)
    torch = re.search(r'^TORCH = "(.*)"', (ROOT / "install.py").read_text(), re.MULTILINE)
    assert torch is not None
    assert torch[1] in text


def test_compose_mounts_what_the_config_names(config: ServeConfig) -> None:
    services = yaml.safe_load(read("compose.yaml"))["services"]
    own = services["reshelf"]
    assert {volume["target"] for volume in own["volumes"]} == {str(config.model), str(config.data)}
    # In the short form, `runs/demo/model` would be the name of a volume that nobody declared.
    assert all((volume["type"], volume["read_only"]) == ("bind", True) for volume in own["volumes"])
    assert {secret["target"] for secret in own["secrets"]} == {str(config.tenants)}
    assert re.fullmatch(r"redis://(\w+):6379/0", config.history)[1] in services  # type: ignore[index]
    assert own["ports"] == [f"{config.port}:{config.port}"]
    for volume in (v for name in ("prometheus", "grafana") for v in services[name]["volumes"]):
        assert (ROOT / volume.split(":")[0]).is_file()
    scraped = yaml.safe_load(read("prometheus.yaml"))
    assert scraped["scrape_configs"][0]["static_configs"][0]["targets"] == [f"reshelf:{config.port}"]
    mounted = {volume.split(":")[1] for volume in services["prometheus"]["volumes"]}
    assert set(scraped["rule_files"]) < mounted


def test_kubernetes_mounts_probes_and_asks_what_is_there(
    config: ServeConfig, kubernetes: dict[str, Any], routes: set[str]
) -> None:
    pod = kubernetes["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["args"] == ["serve", "--config", "/app/serve.yaml"]
    assert container["ports"][0]["containerPort"] == config.port
    assert {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("readiness", "liveness", "startup")} <= routes
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert all(any(Path(place).is_relative_to(m) for m in mounts) for place in (config.model, config.tenants or ""))
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert pod["terminationGracePeriodSeconds"] > config.shutdown_s
    label = kubernetes["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for kind, path in (("Service", ()), ("PodDisruptionBudget", ("matchLabels",)), ("PodMonitor", ("matchLabels",))):
        selector = kubernetes[kind]["spec"]["selector"]
        for part in path:
            selector = selector[part]
        assert selector == label


def test_dashboard_alerts_and_autoscaler_read_metrics_that_the_service_has(kubernetes: dict[str, Any]) -> None:
    metrics = Metrics()
    metrics.watch(lambda: 0, lambda: 0, lambda: 0, lambda: 1, lambda: 60.0)
    there = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    known = metrics.registry._names_to_collectors
    labels = {
        name: {*getattr(of, "_labelnames", ()), *(["le"] if name.endswith("_bucket") else [])}
        for name, of in known.items()
    }
    for family in metrics.registry.collect():
        for sample in family.samples:
            labels[sample.name] = labels.get(sample.name, set()) | set(sample.labels)
    dashboard = json.loads(read("grafana/dashboard.json"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) > 8
    alerts = yaml.safe_load(read("alerts.yaml"))["groups"][0]["rules"]
    queries += [alert["expr"] for alert in alerts]
    for query in queries:
        named = set(re.findall(r"reshelf_\w+", query))
        assert named
        assert named <= set(known), named - set(known)
        for grouped, name in re.findall(r"by \(([^)]*)\) \(.*?(reshelf_\w+)", query):
            assert set(grouped.split(", ")) <= labels[name], query
        for name, matchers in re.findall(r"(reshelf_\w+)\{([^}]*)\}", query):
            assert set(re.findall(r"(\w+)[=!]~?\"", matchers)) <= labels[name], query
    autoscaler = kubernetes["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert autoscaler in there
    assert autoscaler in kubernetes["ConfigMap"]["data"]["rule.yaml"]
    source = yaml.safe_load(read("grafana/sources.yaml"))["datasources"][0]["uid"]
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {source}
