# SPDX-License-Identifier: GPL-3.0-or-later
"""A name in the store means what its user has published; nobody speaks for anybody else, and root follows nobody's links."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.deadline import Deadline
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.errors import ShareFault
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.core.process import Account
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.images import distribute
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci import lease, prune
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.image import Reference
from ansible_collections.rocm.madengine.plugins.module_utils._madengine.oci.store import ImageStore
from helpers import images, stores, users
from helpers.users import BOB, MALLORY, SQUASHED

pytestmark = users.needs_root

NAME = Reference.parse("rocm/vllm:1.0")
GOOD, EVIL = images.make(b"base", b"good"), images.make(b"base", b"evil")
shared = pytest.fixture(users.shared_directory)


@pytest.fixture
def path(shared: str) -> str:
    return stores.make(os.path.join(shared, "store"))


def publish_as(user: Account, path: str, image: images.Image, name: str = str(NAME)) -> Dict[str, Any]:
    return dict(users.run(user, stores.publish, path, image, str(user.uid), name))


def found(path: str, namespaces: List[str], name: str = str(NAME)) -> str:
    stored = ImageStore(path).find(Reference.parse(name), namespaces)
    return stored.identity.digest if stored else ""


def found_by(user: Account, path: str) -> str:
    return str(users.run(user, found, path, [str(user.uid), "site"]))


def obtained(path: str, offer: Dict[str, Any]) -> Dict[str, Any]:
    return distribute.obtain(images.Daemon(), offer, Deadline(60))  # type: ignore[arg-type]


def owners(path: str) -> Dict[str, int]:
    return {str(each.relative_to(path)): each.lstat().st_uid for each in Path(path).rglob("*")}


def squat(path: str, namespace: str, image: images.Image) -> None:
    """Publish as oneself, and give the name to what came of it: what any user can do who comes first."""
    stores.publish(path, image, str(os.geteuid()))
    os.rename(f"{path}/images/{os.geteuid()}", f"{path}/images/{namespace}")


def test_everybody_finds_the_own_image_and_the_sites(path: str) -> None:
    stores.publish(path, GOOD, "site")
    assert [found_by(user, path) for user in (BOB, MALLORY)] == [GOOD.identity.digest] * 2
    publish_as(MALLORY, path, EVIL)
    assert [found_by(user, path) for user in (BOB, MALLORY)] == [GOOD.identity.digest, EVIL.identity.digest]


@pytest.mark.parametrize("namespace", ["site", str(BOB.uid)])
def test_a_namespace_that_another_user_made_first_is_a_fault_that_names_him(path: str, namespace: str) -> None:
    os.rmdir(f"{path}/images/site")
    users.run(MALLORY, squat, path, namespace, EVIL)
    with pytest.raises(ShareFault, match="it belongs to another user") as caught:
        found_by(BOB, path)
    assert str(MALLORY.uid) in caught.value.seen["owner"]
    assert caught.value.seen["path"] == f"{path}/images/{namespace}"
    with pytest.raises(ShareFault, match="it belongs to another user"):
        publish_as(BOB, path, GOOD) if namespace != "site" else stores.publish(path, GOOD, "site")
    assert list(ImageStore(path).images()) == []


def plant(path: str, what: str) -> None:
    """Put into a namespace that its owner has left open an image of one's own."""
    image = Path(path, "images", str(BOB.uid), "rocm%2Fvllm%3A1.0")
    mine = Path(path, "images", str(os.geteuid()), "rocm%2Fvllm%3A1.0")
    stores.publish(path, EVIL, str(os.geteuid()))
    os.rename(image, f"{image}.was")
    if what == "directory":
        os.rename(mine, image)
    elif what == "link":
        image.symlink_to(mine)
    else:
        image.mkdir()
        (image / "index.json").symlink_to(mine / "index.json")


@pytest.mark.parametrize("what", ["directory", "link", "index"])
def test_an_image_that_another_user_put_into_a_namespace_is_none(path: str, what: str) -> None:
    publish_as(BOB, path, GOOD)
    os.chmod(f"{path}/images/{BOB.uid}", 0o777)
    users.run(MALLORY, plant, path, what)
    for mode in (0o777, 0o755):
        os.chmod(f"{path}/images/{BOB.uid}", mode)
        with pytest.raises(ShareFault):
            found_by(BOB, path)


def test_an_index_that_another_user_put_into_an_open_directory_is_none(path: str) -> None:
    publish_as(BOB, path, GOOD)
    publish_as(MALLORY, path, EVIL)
    index = f"{path}/images/{{}}/rocm%2Fvllm%3A1.0/index.json"
    os.replace(index.format(MALLORY.uid), index.format(BOB.uid))
    with pytest.raises(ShareFault, match="it belongs to another user"):
        found_by(BOB, path)


def lure(path: str, target: str) -> None:
    """Make an image directory of one's own a link to where only root may go."""
    stores.publish(path, EVIL, str(os.geteuid()))
    image = f"{path}/images/{os.geteuid()}/rocm%2Fvllm%3A1.0"
    os.rename(image, f"{path}/images/{os.geteuid()}/was")
    os.symlink(target, image)


def test_root_prunes_nothing_behind_a_users_link(path: str, shared: str) -> None:
    secret = Path(shared, "secret")
    secret.mkdir(mode=0o700)
    offer = stores.publish(path, GOOD, "site")
    (secret / "index.json").write_text(Path(f"{path}/images/site/rocm%2Fvllm%3A1.0/index.json").read_text())
    os.utime(secret / "index.json", (0, 0))
    users.run(MALLORY, lure, path, str(secret))
    store = ImageStore(path)
    done = prune.carry_out(store, prune.plan(store, older_than_seconds=-1, namespaces={str(MALLORY.uid)}, grace_seconds=-1))
    assert (secret / "index.json").exists()
    assert done.images == ()
    assert obtained(path, stores.publish(path, GOOD, "site"))["identity"] == offer["identity"]


def test_root_publishes_nothing_behind_a_users_link(path: str, shared: str) -> None:
    secret = Path(shared, "secret")
    secret.mkdir(mode=0o700)
    (secret / "index.json").write_text("kept")
    os.rmdir(f"{path}/images/site")
    users.run(MALLORY, os.symlink, str(secret.parent), f"{path}/images/site")
    os.rename(secret, secret.with_name("rocm%2Fvllm%3A1.0"))
    with pytest.raises(ShareFault):
        stores.publish(path, GOOD, "site")
    assert [each.name for each in secret.with_name("rocm%2Fvllm%3A1.0").iterdir()] == ["index.json"]


def test_root_does_not_work_in_a_directory_of_the_stores_that_a_user_has_made(shared: str) -> None:
    path = os.path.join(shared, "store")
    os.mkdir(path)
    os.chmod(path, 0o1777)
    users.run(MALLORY, os.mkdir, f"{path}/tmp")
    with pytest.raises(ShareFault, match="it belongs to another user"):
        stores.publish(path, GOOD, "site")


def test_root_works_as_the_owner_of_a_store_so_that_a_server_that_knows_no_root_lets_it(shared: str) -> None:
    path = stores.make(os.path.join(shared, "store"), SQUASHED.uid)
    stores.publish(path, GOOD, "site")
    assert set(owners(path).values()) == {SQUASHED.uid}
    assert found_by(BOB, path) == GOOD.identity.digest
    publish_as(BOB, path, EVIL)
    assert found_by(BOB, path) == EVIL.identity.digest
    store = ImageStore(path)
    for name in os.listdir(store.leases):
        lease.give_back(store, name)
    done = prune.carry_out(store, prune.plan(store, older_than_seconds=-1, grace_seconds=-1))
    assert sorted(entry.namespace for entry in done.images) == [str(BOB.uid), "site"]
    assert (store.blobs.names(), os.geteuid()) == ([], 0)


def test_a_namespace_that_root_makes_is_its_users(path: str) -> None:
    os.chmod(f"{path}/images", 0o755)  # where users make nothing themselves
    stores.publish(path, GOOD, str(BOB.uid))
    assert {uid for name, uid in owners(f"{path}/images").items() if name != "site"} == {BOB.uid}
    assert found_by(BOB, path) == GOOD.identity.digest


def read_all(path: str) -> List[str]:
    """Return the files in a store that this user can read; a lease names digests, and is everybody's."""
    readable = [each for each in Path(path).rglob("*") if each.is_file() and os.access(each, os.R_OK)]
    return sorted(str(each.relative_to(path)) for each in readable if each.parent.name != "leases")


def test_in_a_private_store_a_users_layers_are_nobody_elses_and_the_sites_are_everybodys(shared: str) -> None:
    path = stores.make(os.path.join(shared, "store"), blobs_mode=0o755)
    stores.publish(path, images.make(b"base"), "site", "rocm/base:1")
    site = set(read_all(path))
    offer = publish_as(BOB, path, GOOD)
    assert users.run(BOB, obtained, path, offer)["identity"] == GOOD.identity.digest
    assert found_by(BOB, path) == GOOD.identity.digest
    assert set(users.run(MALLORY, read_all, path)) == site
    own = Path(path, "images", str(BOB.uid), "blobs", "sha256")
    kept = [each for each in own.iterdir() if not each.is_symlink()]
    assert len(kept) == 3  # a layer, a config and a manifest: the base is the site's
    assert {stat.S_IMODE(each.stat().st_mode) for each in kept} == {0o600}


def test_an_image_with_own_copies_is_an_oci_layout_by_itself(shared: str) -> None:
    path = stores.make(os.path.join(shared, "store"), blobs_mode=0o755)
    stores.publish(path, images.make(b"base"), "site", "rocm/base:1")
    publish_as(BOB, path, GOOD)
    folder = Path(path, "images", str(BOB.uid), "rocm%2Fvllm%3A1.0")
    manifest = json.loads((folder / "index.json").read_text())["manifests"][0]["digest"]
    document = json.loads((folder / "blobs" / manifest.replace(":", "/")).read_bytes())
    for each in (document["config"], *document["layers"]):
        assert images.digest((folder / "blobs" / each["digest"].replace(":", "/")).read_bytes()) == each["digest"]


def test_own_copies_go_with_the_image_that_needed_them(shared: str) -> None:
    path = stores.make(os.path.join(shared, "store"), blobs_mode=0o755)
    distribute.release([publish_as(BOB, path, GOOD)])
    store = ImageStore(path)
    taken = prune.survey(store)[0].size_bytes
    assert prune.carry_out(store, prune.plan(store, grace_seconds=-1)).images == ()
    assert found_by(BOB, path) == GOOD.identity.digest
    done = prune.carry_out(store, prune.plan(store, older_than_seconds=-1))
    assert ([entry.namespace for entry in done.images], done.freed_bytes) == ([str(BOB.uid)], taken)
    assert list(Path(path, "images", str(BOB.uid), "blobs", "sha256").iterdir()) == []


def put_archive(path: str) -> None:
    Path(path, "rocm_vllm_1.0.tar").write_bytes(images.saved_20(EVIL, [str(NAME)]))


def test_an_archive_that_another_user_has_put_beside_the_store_is_a_fault_that_names_him(path: str) -> None:
    os.chmod(path, 0o1777)
    users.run(MALLORY, put_archive, path)
    with pytest.raises(ShareFault, match="it belongs to another user") as caught:
        users.run(BOB, bring, path)
    assert str(MALLORY.uid) in caught.value.seen["owner"]
    assert users.run(MALLORY, bring, path) == "archive"


def bring(path: str) -> str:
    return str(distribute.publish(images.Daemon(), path, str(NAME), str(os.geteuid()), Deadline(60))["source"])  # type: ignore[arg-type]


def test_a_share_that_goes_away_is_no_image(path: str) -> None:
    stores.publish(path, GOOD, "site")
    shutil.rmtree(path)
    assert found(path, ["site"]) == ""
