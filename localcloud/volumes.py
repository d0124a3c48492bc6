"""EBS volumes: a sparse file each, a loop device while attached, a block device node in the instance.

All that is known of a volume is in files: `ID.img` is its content, `ID.json` where it is attached. So every part of the
cloud that asks sees the same, also after a crash. Those in a stopped instance get their nodes at its next boot.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from . import containers
from .engine import EngineError, run
from .settings import CloudSettings

_GIB = 2**30
_DETACH_SECONDS = 20.0


@dataclass(frozen=True)
class Attachment:
    """Where a volume is: `device` as the API has it."""

    volume_id: str
    instance_id: str
    device: str


def guest_device(device: str) -> str:
    """A device's path in an instance: t2 is Xen, where `/dev/sdf` shows up as `/dev/xvdf`.

    Source: EC2 User Guide, "Device names for volumes on Amazon EC2 instances".
    """
    return device.replace("/dev/sd", "/dev/xvd", 1)


class Volumes:
    """The volumes and snapshots of one cloud.

    Args:
        settings: the cloud's settings.
    """

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._directory = settings.state_dir / "volumes"

    def known(self) -> set[str]:
        """The ids of the volumes there are."""
        return {path.stem for path in self._directory.glob("vol-*.img")}

    def create(self, volume_id: str, size_gib: int, snapshot_id: str | None = None) -> None:
        """Make a volume; it takes room on the disk only as it is written.

        Raises:
            EngineError: there is no such snapshot.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        part = self._directory / f"{volume_id}.part"
        if snapshot_id is None:
            part.touch()
        else:
            snapshot = self._file(snapshot_id)
            if not snapshot.is_file():
                raise EngineError(f"{volume_id}: there is no snapshot {snapshot_id}")
            _copy(snapshot, part)
        os.truncate(part, max(size_gib * _GIB, part.stat().st_size))
        part.rename(self._file(volume_id))

    def delete(self, volume_id: str) -> None:
        """Remove a volume; no error when there is none."""
        attachment = self._attachment(volume_id)
        if attachment is not None:
            self.detach(attachment.instance_id, volume_id)
        self._free(volume_id)
        self._file(volume_id).unlink(missing_ok=True)

    def snapshot(self, snapshot_id: str, volume_id: str) -> None:
        """Keep a copy of a volume as it is now on its disk.

        Raises:
            EngineError: there is no such volume, or no room.
        """
        volume = self._file(volume_id)
        if not volume.is_file():
            raise EngineError(f"{snapshot_id}: there is no volume {volume_id}")
        needed = volume.stat().st_blocks * 512
        if shutil.disk_usage(self._directory).free < needed + _GIB:
            raise EngineError(f"{self._directory} needs {needed / _GIB + 1:.1f} GiB free for {snapshot_id}; make room")
        loop = self._loop(volume_id)
        if loop is not None:
            # What the instance's file system has written may still be on its way to the file.
            run("blockdev", "--flushbufs", loop)
        part = self._directory / f"{snapshot_id}.part"
        _copy(volume, part)
        part.rename(self._file(snapshot_id))

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Remove a snapshot; no error when there is none."""
        self._file(snapshot_id).unlink(missing_ok=True)

    def attach(self, instance_id: str, volume_id: str, device: str) -> None:
        """Give a volume to an instance, running or not.

        Args:
            instance_id: the instance.
            volume_id: the volume.
            device: as the API has it, e.g. `/dev/sdf`.

        Raises:
            EngineError: it is attached elsewhere, or the machine cannot make the device.
        """
        attachment = self._attachment(volume_id)
        if attachment is not None and attachment.instance_id != instance_id:
            raise EngineError(f"{volume_id} is attached to {attachment.instance_id}; detach it first")
        if not self._file(volume_id).is_file():
            raise EngineError(f"there is no volume {volume_id}")
        record = self._record(volume_id)
        part = record.with_suffix(".new")
        part.write_text(json.dumps(asdict(Attachment(volume_id, instance_id, device))), encoding="utf-8")
        part.rename(record)
        process = self._process(instance_id)
        if process is not None:
            containers.make_node(process, guest_device(device), self._number(volume_id))

    def detach(self, instance_id: str, volume_id: str) -> None:
        """Take a volume away from an instance; no error when it is not attached to it.

        Raises:
            EngineError: the instance still uses it: it should have unmounted it.
        """
        attachment = self._attachment(volume_id)
        if attachment is None or attachment.instance_id != instance_id:
            return
        process = self._process(instance_id)
        if process is not None:
            if self._is_mounted(process, volume_id):
                raise EngineError(f"{volume_id} is still mounted in {instance_id}; unmount it there first")
            containers.remove_node(process, guest_device(attachment.device))
        self._free(volume_id)
        self._record(volume_id).unlink()

    def attached(self, instance_id: str) -> dict[str, str]:
        """An instance's volumes: id by device as the API has it. It is the same while the instance is stopped."""
        return {found.device: found.volume_id for found in self._attachments() if found.instance_id == instance_id}

    def nodes(self, instance_id: str) -> dict[str, int]:
        """The block devices an instance needs at boot: device number (makedev(3)) by path in the instance.

        Raises:
            EngineError: the machine cannot make loop devices.
        """
        return {
            guest_device(device): self._number(volume_id) for device, volume_id in self.attached(instance_id).items()
        }

    def release(self, instance_id: str) -> None:
        """Free what an instance that is gone had attached; the volumes stay."""
        for volume_id in self.attached(instance_id).values():
            self._free(volume_id)
            self._record(volume_id).unlink()

    def down(self) -> None:
        """Free the loop devices, then remove all volumes and snapshots; finds them by the directory's name."""
        for loop, file in _loops().items():
            if file.parent == self._directory:
                run("losetup", "--detach", loop)
        if self._directory.exists():
            shutil.rmtree(self._directory)

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}.img"

    def _record(self, volume_id: str) -> Path:
        return self._directory / f"{volume_id}.json"

    def _attachment(self, volume_id: str) -> Attachment | None:
        record = self._record(volume_id)
        return Attachment(**json.loads(record.read_text(encoding="utf-8"))) if record.is_file() else None

    def _attachments(self) -> list[Attachment]:
        found = (self._attachment(path.stem) for path in sorted(self._directory.glob("vol-*.json")))
        return [attachment for attachment in found if attachment is not None]

    def _process(self, instance_id: str) -> int | None:
        """The first process of a running instance."""
        return containers.running_pid(containers.name(self._settings, instance_id))

    def _loop(self, volume_id: str) -> str | None:
        """A volume's loop device, if it has one."""
        file = self._file(volume_id)
        return next((loop for loop, backing in _loops().items() if backing == file), None)

    def _number(self, volume_id: str) -> int:
        """The device number of a volume's loop device, which is made if need be."""
        loop = self._loop(volume_id)
        if loop is None:
            try:
                loop = run("losetup", "--find", "--show", str(self._file(volume_id))).stdout.strip()
            except EngineError as error:
                raise EngineError(
                    f"{error}\nVolumes need loop devices; load the module with: sudo modprobe loop"
                ) from error
        return Path(loop).stat().st_rdev

    def _free(self, volume_id: str) -> None:
        """Detach a volume's loop device, and wait until nobody has it open.

        Raises:
            EngineError: somebody still has after a while.
        """
        loop = self._loop(volume_id)
        if loop is None:
            return
        run("losetup", "--detach", loop)
        deadline = time.monotonic() + _DETACH_SECONDS
        # A file system of an instance that just ended is still being written back.
        while self._loop(volume_id) is not None:
            if time.monotonic() > deadline:
                raise EngineError(f"{volume_id} ({loop}) is still in use; see: findmnt --all | grep {loop}")
            time.sleep(0.05)

    def _is_mounted(self, process: int, volume_id: str) -> bool:
        loop = self._loop(volume_id)
        if loop is None:
            return False
        number = Path(loop).stat().st_rdev
        wanted = f"{os.major(number)}:{os.minor(number)}"
        lines = Path(f"/proc/{process}/mountinfo").read_text(encoding="utf-8").splitlines()
        return any(line.split()[2] == wanted for line in lines)


def _loops() -> dict[str, Path]:
    """The machine's loop devices that are in use, with their files."""
    listed = run("losetup", "--list", "--json", "--output", "NAME,BACK-FILE").stdout
    devices = json.loads(listed)["loopdevices"] if listed.strip() else []
    # The kernel marks files that were deleted meanwhile.
    return {one["name"]: Path(one["back-file"].removesuffix(" (deleted)")) for one in devices if one["back-file"]}


def _copy(source: Path, target: Path) -> None:
    """Copy a sparse file; on file systems that can, without copying its blocks."""
    run("cp", "--sparse=always", "--reflink=auto", str(source), str(target), timeout=1800)
