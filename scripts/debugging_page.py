"""Writes docs/debugging.md: a session with the commands that explain, with the output that they give now.

Each command is run here, on the manifests of docs/examples and of docs/debugging. Only the words between are written.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from pathlib import Path

from controller.cli import main

ROOT = Path(__file__).resolve().parent.parent
_INTRODUCTION = """\
# Why is this allowed, why is that denied?

Each question has one command. The commands on this page need no controller: they read manifests, so they can be asked
before anything is applied. Without `--manifests` they ask the running controller, which answers from the cluster as the
switches have it.
"""
_EXPLAIN = """\
## One connection

An API has two pods, and a policy allows its port by name. Does `frontend` reach it?
"""
_DENIED = """\
The name stands for another number in each pod, so the same number is denied at the other one. The rule says what it
has instead:
"""
_BLOCK = """\
An address block with an exception, asked about an address that it excepts:
"""
_INPUT = """\
Exit codes are for scripts: 0 allowed, 1 denied, 2 no answer. `-o json` is for programs; its schema is
[schemas/explain.json](schemas/explain.json). What a cluster has now is read with `--kubeconfig FILE`, or from what
kubectl prints:

```console
$ kubectl get ns,po,no,netpol -A -o yaml | headgate explain shop/web shop/db -p 5432 --manifests -
```

What is not given does not count: add `svc,endpointslices` for Services, and `clusternetworkpolicies` where there are
any.
"""
_SWITCHES = """\
## Is it really in force?

A running controller answers twice: with policy's verdict, and with the way of the first packet through the flows that
the switches of both ends have now. It lists every table that the packet passes, the flow that it matches, what that
flow is for (the rule, or the policies that isolate), and how many packets it has counted. A switch that does not do
what policy says comes first, and the exit code is 4: a foreign flow in the way, or flows that are not committed yet.

Flows are read from the switches for each question. The packet is not sent; no connection is taken to be known, and no
limit to be reached. `--policy-only` leaves the switches alone.

`--live` sends one: a SYN, a datagram or an echo request, given to the first switch as if the pod had sent it, and then
to the other node's. Where a switch would send it, or drops it, the controller gets it instead, and `explain` shows the
table and the port; no pod sees it. With `--deliver` the destination does, where both switches let it through. The
packet is not recorded and passes no meter, so real connections and limits are left alone; rules that it meets count it.
After `--deliver` the pod's answers, up to six for each packet, are dropped and counted among its invalid packets.
What it cannot tell: links between nodes, Services, packets of nodes and of the outside, and any packet but the first
([ADR 23](adr/0023-live-probes.md)).

Two addresses out of a log are enough for a question, with their ports as the log has them, also when a pod is gone: the
controller remembers the last 10,000 that were deleted, and explains them as they were, with the policies of now.

`headgate verify` asks the same of many connections at once, between the pods of up to eight switches and with addresses
outside, on both sides of every port that a policy names: `--sample N` of them, or `--everything`. It prints how many
are allowed and denied by both, and names those that differ; `--seed` asks the same sample again.
"""
_CHECK = """\
## Before applying

`headgate check` reads manifests as they are in a repository: of a workload its template counts, so nothing has to run.
Of [debugging/shop.yaml](debugging/shop.yaml) it says:
"""
_CHECK_MORE = """\
Each finding has a code that never changes its meaning; `headgate check --codes` lists them. A comment silences one, on
its line or the line before: `# headgate: ignore HG108`; `# headgate: ignore-file HG108` does so for the file. Pods that
are in the cluster and not in the repository are given with `--beside`, as kubectl prints them.

Exit codes: 0 nothing found, 1 found (`--fail-on` says from which severity on), 2 nothing to read. `-o json` has the
schema [schemas/check.json](schemas/check.json). `-o sarif` is for code hosts, `-o junit` for other CI systems:

```yaml
# GitHub: the findings stand beside the lines of a pull request
- run: headgate check deploy/ -o sarif >headgate.sarif
- uses: github/codeql-action/upload-sarif@v3
  if: always()
  with: {sarif_file: headgate.sarif}
```

```yaml
# GitLab: the findings stand in the merge request
policies:
  script: headgate check deploy/ -o junit >headgate.xml
  artifacts: {when: always, reports: {junit: headgate.xml}}
```

Before each commit, with [pre-commit](https://pre-commit.com): the hook `headgate-check` of this repository checks all
manifests of yours; `args: [deploy/]` chooses a folder.
"""
_ASSERT = """\
## What must hold

Lint finds slips; assertions say what is meant. A document of kind `ReachabilityTest` beside the manifests holds them
([debugging/shop-test.yaml](debugging/shop-test.yaml)):

```yaml
"""
_ASSERT_MORE = """\
```

They are decided for all pods, protocols and ports, and for all addresses: those outside by classes that no policy tells
apart. So an assertion that holds has no exception, and one that does not names a connection:
"""
_ASSERT_END = """\
`from` and `to` are `outside` (every address that no pod has), `pods`, `anywhere`, or an object with `pod`, `namespace`,
`namespaceLabels`, `labels` (all must fit), with `addresses` (a prefix) alone, or with `not` alone. `expect` is
`allowed` (each of the connections), `denied` (none), or `only` (none but those of `from`). Without `ports` an assertion
is about every protocol and port. A pod with itself and a pod with its own node are not asked, for no NetworkPolicy
parts these.
"""


_MATRIX = """\
## Who reaches whom

`headgate matrix` asks about everybody at once, by pod, workload or namespace, and the addresses outside:
"""
_MATRIX_MORE = """\
`-o connections` prints a line for each pair, in the form of other analyzers, so that two answers can be compared with
diff; each range of addresses outside has its own. `-o html --file matrix.html` writes one page to search and filter,
which loads nothing; `-o json` has the schema [schemas/matrix.json](schemas/matrix.json). `(some)` says that a cell
holds for some of the pods, or on some of the ports. Not shown are a pod and itself, and a pod and its own node, which
no NetworkPolicy parts, and pods on the host's network, which are part of their nodes.

`--exposure` asks about pods that need not exist yet: what the policies of each workload allow any pod, and pods of the
labels that rules name where these may do more, or less. What policies such pods would have themselves is not known, and
a port that an egress rule names has no number there, so its name is told.

Manifests have no addresses, but address blocks in rules count for pods too. So pods without an address get one of
10.244.0.0/14; where the cluster's range is another, `--pod-cidr` says so.

Of workloads are read: Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job and CronJob. One pod
of the template stands for a workload without pods, two where it has several. What bears on reachability and is not
read (Ingress, Route, Gateway, secondary networks, virtual machines, policies of other APIs) is named on standard error.

Who compares with another analyzer finds these differences of meaning:

- An address block counts for the pods whose addresses are in it, as in the switches, also where these are made up.
- Pods on the host's network and pods that have finished are left out: nothing is switched for them.
- The pods of one workload are asked about each other, too, and shown as the workload with itself.
- `All Connections` has the protocols without ports in it, like ICMP; a rule of all ports of TCP, UDP and SCTP has not.
- A ReplicaSet whose pods have the label `pod-template-hash` is shown as its Deployment.
- What the API server would refuse is a problem, on standard error: an object without a valid name is left out, a rule
  that cannot be read allows nothing.
- Exposure to pods of some labels is what all such pods may, by all rules together, also where such pods exist.
"""
_PLAN = """\
## What would it change?

`headgate plan` says what applying files would do, or deleting those of `--delete`: connections that come and go, by
workload, and how many flows of each switch. Nothing is applied. Another policy for the example of named ports:
"""
_PLAN_MORE = """\
Of a running controller it also says what the rules that go have counted. Exit codes: 0 nothing would change, 1
something would, 2 a file cannot be read, 3 the controller does not answer. `-o markdown` is for a merge request;
`-o json` has the schema [schemas/plan.json](schemas/plan.json). A pod that is applied keeps its addresses and node. The
pods of a workload that is applied get its labels and ports.
"""


def debugging() -> str:
    """The page."""
    deny = "docs/examples/01-default-deny/manifests/policy.yaml"
    ports, blocks = "docs/examples/05-named-ports/manifests", "docs/examples/06-ip-block-with-except/manifests"
    return "\n".join(
        [
            _INTRODUCTION,
            _EXPLAIN,
            _run(f"headgate explain tenant-a/frontend tenant-a/api-1 -p 8080 --manifests {ports}"),
            _DENIED,
            _run(f"headgate explain tenant-a/frontend tenant-a/api-2 -p 8080 --manifests {ports}"),
            _BLOCK,
            _run(f"headgate explain 198.51.100.20 tenant-a/backend -p 80 --manifests {blocks}"),
            _INPUT,
            _SWITCHES,
            _CHECK,
            _run("headgate check docs/debugging/shop.yaml"),
            _CHECK_MORE,
            _ASSERT + (ROOT / "docs/debugging/shop-test.yaml").read_text(encoding="utf-8") + _ASSERT_MORE,
            _run("headgate check docs/debugging/ --fail-on error"),
            _ASSERT_END,
            _MATRIX,
            _run(f"headgate matrix --manifests {ports}"),
            _MATRIX_MORE,
            _PLAN,
            _run(f"headgate plan {deny} --manifests {ports}"),
            _PLAN_MORE,
        ]
    )


def _run(command: str) -> str:
    """A command and its output, as in a terminal that breaks no lines."""
    out = io.StringIO()
    before = Path.cwd()
    os.chdir(ROOT)  # paths in the output are as in a fresh checkout
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            main(shlex.split(command)[1:])
    finally:
        os.chdir(before)
    return f"```console\n$ {command}\n{out.getvalue().rstrip()}\n```\n"
