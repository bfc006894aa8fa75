# SPDX-License-Identifier: GPL-3.0-or-later
"""What is quoted from a job goes through one door, and no secret that can be known gets through it."""

from __future__ import annotations

import json
from typing import List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.manifest import quoting
from hypothesis import given
from hypothesis import strategies as st

SECRET = "s3cr3tvalue"


@given(st.text(max_size=200), st.text(st.characters(categories=("L", "N")), min_size=4, max_size=30))
def test_a_known_secret_is_masked_wherever_it_stands(text: str, secret: str) -> None:
    assert secret not in quoting.masked(text + secret + text, [secret])


@pytest.mark.parametrize(
    "text",
    [
        f"HF_TOKEN={SECRET}",
        f"export MAD_SECRETS_HFTOKEN='{SECRET}'",
        f'{{"HF_TOKEN": "{SECRET}"}}',
        json.dumps(json.dumps({"HF_TOKEN": SECRET})),
        f"docker run -e HF_TOKEN='{SECRET}' -e A=b image",
        f"--env=HF_TOKEN={SECRET}",
        f"--hf-token {SECRET} --model x",
        f"--api-key={SECRET}",
        f"password: {SECRET}",
        f"git clone https://alice:{SECRET}@host/x.git",
        f"Authorization: Bearer {SECRET}",
        f"X-API-Key: {SECRET}",
        f"curl -H 'Authorization: token {SECRET}'",
        f"git clone https://{SECRET}123@host/x.git",
        f"export HF_TOKEN=$'{SECRET}'",
        f"HF_TOKEN\t{SECRET}",
        f"AWS_SECRET_ACCESS_KEY is {SECRET}",
        "AIza" + SECRET * 4,
        "nvapi-" + SECRET * 4,
        "npm_" + SECRET * 4,
        "pypi-" + SECRET * 4,
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----",
        "hf_" + SECRET * 2,
        "sk-" + SECRET * 2,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + SECRET,
        f"authorization: bearer {SECRET}",
        f"os.environ['HF_TOKEN'] = '{SECRET}'",
        f'os.environ["HF_TOKEN"]="{SECRET}"',
        f"HF_TOKEN => {SECRET}",
        f"HF_TOKEN -> {SECRET}",
        f"HF_TOKEN%3D{SECRET}",
        f"HF_TOKEN='abcd'{SECRET}",
        f"HF_TOKEN=abcd'{SECRET}'",
        f"\x1b[32mHF_TOKEN\x1b[0m=\x1b[1m{SECRET}",
        f"redis://:{SECRET}@host:6379",
        f"Server=x;Uid=u;Pwd={SECRET};",
        f"docker login -u u -p {SECRET} registry",
        f"sshpass -p {SECRET} ssh n1",
        f"curl -u alice:{SECRET} https://x",
        f"mysql -u root -p{SECRET}",
        f"https://x/y?sv=1&sig={SECRET}&se=2",
        f'{{"auths": {{"x": {{"auth": "{SECRET}"}}}}}}',
        f"Set-Cookie: session={SECRET}",
        "dckr_pat_" + SECRET * 2,
        f"Password for user: {SECRET}",
        f"password for 'bob' is {SECRET}",
        f"Enter passphrase for key '/root/.ssh/id': {SECRET}",
        f"machine huggingface.co login u password {SECRET}",
        f"API key: {SECRET}",
        f"using token '{SECRET}'",
        f"the token is {SECRET}",
        f"wandb login {SECRET}",
        f"Authorization: ApiKey {SECRET}",
        f'{{"clientSecret": "{SECRET}"}}',
        f"<server><password>{SECRET}</password></server>",
    ],
)
def test_a_secret_is_known_by_its_name_or_its_form(text: str) -> None:
    assert SECRET not in quoting.masked(text)
    assert SECRET not in json.dumps(quoting.all_masked({"a": [text, {text: 1}]}))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "step=12345",
            "max_tokens=4096",
            "PWD=/home/alice",
            "pwd=$OLDPWD",
            "curl -u alice https://x",
            "docker run -p 8000:8000 x",
            "a=b 'c'",
            "bearer of news",
            "token_type_ids=[0,0]",
            "eos_token='<|eot_id|>'",
            "tokens_per_second: 123.4",
            "http://n1:8000/v1",
        ),
        *("HF_TOKEN is not set", "MASTER_PORT 29500", "git+ssh://git@github.com/x.git", "NUM_PASS=1234", "n1: HF_HOME /data/hf1234567"),
        *("GOOGLE_APPLICATION_CREDENTIALS=/secrets/sa.json", "END_TOKEN=<|eod|>"),
        *("password for user: denied", "the token is expired", "time per token: 12.3", "Token 128256 is special", "pass 1 of 2"),
        *("token 'llama'", "per token 12.5ms", "the wandb login failed", "no api key was given", "<token>", "prompt token: 1234567"),
        *("--max-tokens 4096000", "--model meta-llama/Llama-3.1-8B", "total_token_throughput_tok_s", "node_0/perf_llama.csv"),
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert quoting.masked(text) == text


@given(st.text("ab\n", max_size=40), st.lists(st.text("ab", min_size=1, max_size=6), max_size=3), st.integers(1, 9))
def test_secrets_are_taken_out_of_a_file_as_out_of_one_text_wherever_it_is_cut(text: str, secrets: List[str], size: int) -> None:
    blocks = [text.encode()[start : start + size] for start in range(0, len(text), size)]
    whole = b"".join(quoting.without([text.encode()], secrets))
    assert b"".join(quoting.without(blocks, secrets)) == whole
    assert not any(secret.encode() in whole for secret in secrets)


def test_a_value_that_stands_in_many_places_by_chance_is_not_taken_out() -> None:
    assert quoting.tellable([SECRET, "postgres", "Password", "ADMIN", "123456", "12.5", "abc", "9" * 12]) == ["9" * 12, SECRET]


def test_the_secrets_among_variables_are_known_by_name() -> None:
    assert quoting.secrets_in([f"HF_TOKEN={SECRET}", "A=b", "API_KEY=abc", "MAD_SECRETS_X="]) == [SECRET]
