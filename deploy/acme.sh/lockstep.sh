#!/usr/bin/env sh
# shellcheck disable=SC2034,SC2154
# A deploy hook of acme.sh: it puts a new certificate into Lockstep, under each of its names.
#
# Install it as ~/.acme.sh/deploy/lockstep.sh, and say once for each certificate:
#
#	acme.sh --deploy -d shop.example --deploy-hook lockstep
#
# It runs lockstep, which finds lockstepd on this machine. For one elsewhere set LOCKSTEP_SERVER and
# LOCKSTEP_TOKEN_FILE, as for each command (lockstep --help). acme.sh remembers them.

# lockstep_deploy takes the domain, and the files of the key, the leaf, the CA and the whole chain.
lockstep_deploy() {
	_cdomain="$1"
	_ckey="$2"
	_cfullchain="$5"

	_getdeployconf LOCKSTEP_SERVER
	_getdeployconf LOCKSTEP_TOKEN_FILE
	if [ -n "$LOCKSTEP_SERVER" ]; then
		_savedeployconf LOCKSTEP_SERVER "$LOCKSTEP_SERVER"
		export LOCKSTEP_SERVER
	else
		unset LOCKSTEP_SERVER
	fi
	if [ -n "$LOCKSTEP_TOKEN_FILE" ]; then
		_savedeployconf LOCKSTEP_TOKEN_FILE "$LOCKSTEP_TOKEN_FILE"
		export LOCKSTEP_TOKEN_FILE
	else
		unset LOCKSTEP_TOKEN_FILE
	fi

	# The folder of the other kind of key: if it has a certificate, too, both are served.
	_dir="${_ckey%/*}"
	case "$_dir" in
	*_ecc) _other="${_dir%_ecc}" ;;
	*) _other="${_dir}_ecc" ;;
	esac
	_beside=""
	if [ -f "$_other/fullchain.cer" ]; then
		_beside=--beside
	fi

	# Le_Alt has the other names, with commas, or "no".
	_failed=0
	_names="$_cdomain"
	if [ -n "$Le_Alt" ] && [ "$Le_Alt" != no ]; then
		_names="$_names,$Le_Alt"
	fi
	while [ -n "$_names" ]; do
		_name="${_names%%,*}"
		case "$_names" in
		*,*) _names="${_names#*,}" ;;
		*) _names="" ;;
		esac
		if ! lockstep cert put "$_name" ${_beside:+"$_beside"} --cert "$_cfullchain" --key "$_ckey"; then
			_err "lockstep did not take the certificate of $_name."
			_failed=1
		fi
	done
	return $_failed
}
