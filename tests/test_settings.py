"""Flags, variables, and which wins."""

from importlib.util import find_spec
from socket import create_server

import pytest

from foresight.errors import InputError
from foresight.settings import Settings


def test_nothing_said_is_a_private_app_on_bundled_models() -> None:
    assert Settings.read([], {}) == Settings()


def test_a_flag_wins_over_its_variable() -> None:
    variables = {"FORESIGHT_PORT": "8080", "FORESIGHT_NO_TRAIN": "yes", "FORESIGHT_MODEL": "a/b"}
    settings = Settings.read(
        ["--port", "9090", "--public", "--dtype", "bfloat16"], variables | {"FORESIGHT_DEVICE": "cpu"}
    )
    chosen = {"device": "cpu", "dtype": "bfloat16"}
    assert settings == Settings(port=9090, public=True, no_train=True, model="a/b", **chosen)


@pytest.mark.parametrize(("variables", "public"), [({"SPACE_ID": "me/it"}, True), ({"FORESIGHT_PUBLIC": "0"}, False)])
def test_a_space_is_public_unless_told_otherwise(variables: dict[str, str], public: bool) -> None:
    assert Settings.read([], variables).public is public
    assert Settings.read([], {"SPACE_ID": "me/it"} | variables).public is public


def test_a_shared_link_is_public_unless_told_otherwise() -> None:
    assert Settings.read(["--share"], {}).public
    assert not Settings.read(["--share"], {"FORESIGHT_PUBLIC": "0"}).public


@pytest.mark.parametrize(
    ("arguments", "variables", "local"),
    [
        ([], {}, True),
        (["--host", "localhost"], {}, True),
        (["--host", "127.8.0.1"], {}, True),
        (["--host", "[::1]"], {}, True),
        (["--host", "0.0.0.0"], {}, False),
        (["--host", "::"], {}, False),
        (["--host", "192.168.1.5"], {}, False),
        (["--host", "localhost.example.org"], {}, False),
        (["--public"], {}, False),
        (["--share"], {"FORESIGHT_PUBLIC": "0"}, False),
        ([], {"FORESIGHT_HOST": "0.0.0.0"}, False),
        ([], {"GRADIO_SERVER_NAME": "0.0.0.0"}, False),
        (["--host", "127.0.0.1"], {"GRADIO_SERVER_NAME": "0.0.0.0"}, True),
    ],
)
def test_only_a_loopback_address_that_is_not_shared_is_local(
    arguments: list[str], variables: dict[str, str], local: bool
) -> None:
    assert Settings.read(arguments, variables).local is local


def test_an_address_where_nothing_can_listen_is_one_sentence() -> None:
    with create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for settings, sentence in (
            (Settings(port=port), f"cannot listen on 127.0.0.1, port {port}: address already in use\\."),
            (Settings(host="192.0.2.1"), "cannot listen on 192.0.2.1: cannot assign requested address\\."),
            (Settings(host="no.such.host.invalid"), "cannot listen on no.such.host.invalid: .*\\."),
        ):
            with pytest.raises(InputError, match=sentence):
                settings.check_address()
    Settings(port=port).check_address()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_address_of_version_6_is_written_in_brackets(host: str) -> None:
    assert Settings.read(["--host", host], {}).host == "[::1]"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "²"])
def test_a_port_is_a_port(port: str) -> None:
    with pytest.raises(InputError, match="port"):
        Settings.read([f"--port={port}"], {})


@pytest.mark.skipif(find_spec("mcp") is not None, reason="mcp is installed")
def test_mcp_without_its_package_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r'pip install "gradio\[mcp\]"'):
        Settings.read(["--mcp"], {})


def test_a_switch_is_one_or_zero() -> None:
    with pytest.raises(InputError, match="FORESIGHT_SHARE"):
        Settings.read([], {"FORESIGHT_SHARE": "perhaps"})
