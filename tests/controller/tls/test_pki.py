"""`headgate pki`: what it makes, what it says, and what it does not overwrite; and the files of the real ovs-pki."""

from __future__ import annotations

import shutil
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from cryptography import x509

from controller.cli import main
from controller.tls.credentials import Credentials
from controller.tls.files import CA_CERTIFICATE, CERTIFICATE, PRIVATE_KEY, TlsFiles


def pki(*arguments: str) -> int:
    return main(["pki", *arguments])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_init_makes_the_layout_and_says_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pki"
    assert pki("init", "--dir", str(folder), "--name", "controller.example", "--name", "192.0.2.1") == 0
    out = capsys.readouterr().out
    assert f"headgate pki switch NODE --dir {folder}" in out and f"headgate run --pki-dir {folder}" in out
    for key in (PRIVATE_KEY, "controllerca/private/cakey.pem", "switchca/private/cakey.pem"):
        assert mode(folder / key) == 0o600
    assert mode(folder / "switchca/private") == 0o700
    certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["controller.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
    left_over = [path for path in folder.rglob("*") if path.name.startswith(".")]
    assert left_over == []


def test_switch_says_what_to_type_on_the_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pki"
    pki("init", "--dir", str(folder), "--name", "192.0.2.1")
    assert pki("switch", "node-1", "--dir", str(folder)) == 0
    out = capsys.readouterr().out
    assert "ovs-vsctl set-ssl /etc/openvswitch/node-1-privkey.pem /etc/openvswitch/node-1-cert.pem " in out
    assert "ovs-vsctl set-manager ssl:192.0.2.1:6640" in out
    assert "ovs-vsctl set-manager ssl:192.0.2.1:6640" in out and "set-controller" not in out
    assert mode(folder / "node-1-privkey.pem") == 0o600
    ca, own = folder / "switchca/cacert.pem", folder / "node-1-cert.pem"
    for purpose in ("sslclient", "sslserver"):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(ca), str(own)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_nothing_is_overwritten_unless_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pki"
    pki("init", "--dir", str(folder))
    pki("switch", "node-1", "--dir", str(folder))
    before = {path: path.read_bytes() for path in folder.rglob("*.pem")}
    assert pki("init", "--dir", str(folder)) == 1
    assert pki("switch", "node-1", "--dir", str(folder)) == 1
    assert "`headgate pki switch node-1 --renew` replaces it" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.pem")} == before
    assert pki("init", "--dir", str(folder), "--renew") == 0
    assert pki("switch", "node-1", "--dir", str(folder), "--renew") == 0
    changed = {path.name for path, old in before.items() if path.read_bytes() != old}
    assert changed == {PRIVATE_KEY, CERTIFICATE, "node-1-privkey.pem", "node-1-cert.pem"}


@pytest.mark.parametrize("name", ["", "../x", "a b", "ctl", ".x", "x" * 65])
def test_a_wrong_name_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    pki("init", "--dir", str(tmp_path))
    capsys.readouterr()
    assert pki("switch", "--dir", str(tmp_path), "--", name) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_ca_it_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pki("switch", "node-1", "--dir", str(tmp_path)) == 1
    assert "headgate pki init --dir" in capsys.readouterr().err


def test_names_of_the_controller_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pki("init", "--dir", str(tmp_path), "--name", "not a name") == 1
    assert "neither a host name nor an IP address" in capsys.readouterr().err


@pytest.mark.switch
@pytest.mark.skipif(not shutil.which("ovs-pki"), reason="ovs-pki is not there")
def test_what_ovs_pki_makes_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    common = ["ovs-pki", f"--dir={folder}", f"--log={tmp_path}/log", "--batch"]
    subprocess.run([*common, "init"], check=True, cwd=tmp_path, capture_output=True)
    for name, kind in (("ctl", "controller"), ("node-1", "switch")):
        subprocess.run([*common, "req+sign", name, kind], check=True, cwd=folder, capture_output=True)
    files = TlsFiles(folder / PRIVATE_KEY, folder / CERTIFICATE, folder / CA_CERTIFICATE)
    ours = Credentials(files, ["node-1"])
    switch = TlsFiles(folder / "node-1-privkey.pem", folder / "node-1-cert.pem", folder / "controllerca/cacert.pem")
    theirs = Credentials(switch)
    here, there = socket.socketpair()
    with here, there:
        server, client = ours.secure(here, True), theirs.secure(there, False)
        thread = threading.Thread(target=client.shake_hands, args=(30,))
        thread.start()
        server.shake_hands(30)
        thread.join()
        assert ours.authorize(server) == "node-1"
    ours.close()
    theirs.close()
