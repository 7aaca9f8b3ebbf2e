# The first process of new pid, mount, uts and ipc namespaces: makes a root for itself there, and
# becomes systemd. What it has of the machine is /usr, to read, without its units, and a few
# devices. The rest is in the folder $1. $2 is its cgroup.
set -eu
# Without these it writes no line of the machine's audit log, and reaches nothing that no namespace
# divides.
export caps=-audit_control,-audit_write,-mac_admin,-mac_override,-sys_boot,-sys_module,-sys_rawio,-sys_time,-syslog
echo 0 >"$2/cgroup.procs"
exec unshare --cgroup sh -euc '
mount --make-rprivate /
mount -t tmpfs -o mode=755 root "$1/root"
cd "$1/root"
mkdir -p dev etc proc run sys tmp usr var/lib var/log var/tmp
for link in bin sbin lib lib64; do
	if [ -L "/$link" ]; then cp -P "/$link" "$link"; fi
done
mount -o bind,ro /usr usr
for none in usr/lib/systemd/system usr/lib/systemd/system-generators usr/lib/systemd/system-environment-generators; do
	if [ -d "$none" ]; then mount -t tmpfs -o ro none "$none"; fi
done
mount -o bind "$1/usr/local" usr/local
mount -o bind "$1/etc" etc
mount -o bind "$1/var/lib" var/lib
mount -o bind "$1/var/log" var/log
mount -t proc proc proc
mount -o bind,ro proc/sys proc/sys # systemd raises limits of the whole machine at its start
mount -t sysfs sysfs sys
mount -o remount,bind,ro sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
for device in full null random tty urandom zero; do
	: >"dev/$device"
	mount -o bind "/dev/$device" "dev/$device"
done
mount -t devpts -o newinstance devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=1777 tmp var/tmp
pivot_root . .
umount -l .
cd /
exec env -i PATH=/usr/sbin:/usr/bin container=lxc setpriv --bounding-set="$caps" \
	/lib/systemd/systemd --system --unit=multi-user.target
' systemd "$1"
