# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: GPL-3.0-or-later
# What a task of a job of ours gets, printed for slurmstepd; `task_prolog` reads this file in, with the job's state
# directory in _job.
IFS= read -r _verdict <"$_job/verdict"
case $_verdict in
    ready) ;;
    starting | '')
        echo "print madengine: defect: the prolog gave no verdict on this node; this job runs without its help, see the node's journal"
        exit 0
        ;;
    *)
        printf 'print %s\n' "$_verdict"
        exit 1
        ;;
esac
[ -r "$_job/exports" ] || exit 0

set -f
_newline='
'
IFS=$_newline
# What the user has set stays as it is. A task of `srun` inherits what the batch script's own TaskProlog has set on
# another node, NODE_RANK for one: MADENGINE_EXPORTED tells that from a value of the user's.
_ours=
_value=
_names=
_output=
while read -r _line; do
    _name=${_line%%=*}
    case $_name in "$_line" | '' | [!A-Za-z_]* | *[!A-Za-z0-9_]*) continue ;; esac
    _names=$_names$_newline$_name
    eval "_is_set=\${$_name+yes} _value=\${$_name-}"
    if [ "$_is_set" ]; then
        case "|$MADENGINE_EXPORTED|" in *"|$_name=$_value|"*) ;; *) continue ;; esac
    fi
    _ours="$_ours|$_line"
    _output="${_output}export $_line$_newline"
done <"$_job/exports"
printf '%sexport MADENGINE_EXPORTED=%s\n' "$_output" "${_ours#|}"

# For `docker run --env-file`: a bare NAME takes its value, byte for byte, from the environment of the docker client.
# A file of another step or job, inherited, is none of the user's choice; on another node it is not even there.
case ${MAD_ENV_FILE-"$_job/task/"} in /run/madengine/jobs/*/task/*) ;; *) exit 0 ;; esac
_content=
while read -r _name; do _content=$_content$_name$_newline; done <"$_job/names"
_globs=
while read -r _glob; do _globs=$_globs$_newline$_glob; done <"$_job/globs"
_without=
while read -r _glob; do _without=$_without$_newline$_glob; done <"$_job/without"
for _line in $_names $(export -p); do
    # `export NAME='value'`: what follows the first line of a value is no name.
    _name=${_line#export }
    _name=${_name%%=*}
    case $_name in [!A-Za-z_]* | *[!A-Za-z0-9_]*) continue ;; esac
    # shellcheck disable=SC2254 # the patterns are meant as such
    for _glob in $_without; do
        case $_name in $_glob) continue 2 ;; esac
    done
    # shellcheck disable=SC2254
    for _glob in $_globs; do
        case $_name in $_glob) _content=$_content$_name$_newline && break ;; esac
    done
done
# Where the first of two is set, a container gets the second as well: empty, or what the user says.
while IFS=' ' read -r _name _other; do
    case $_name in '' | [!A-Za-z_]* | *[!A-Za-z0-9_]*) continue ;; esac
    case $_other in '' | [!A-Za-z_]* | *[!A-Za-z0-9_]*) continue ;; esac
    eval "_is_set=\${$_name+given}\${$_other+other}"
    case $_names$_newline in *"$_newline$_name$_newline"*) _is_set=given${_is_set#given} ;; esac
    case $_names$_newline in *"$_newline$_other$_newline"*) _is_set=${_is_set%other}other ;; esac
    case $_is_set in
        given) _content=$_content$_other=$_newline ;;
        givenother) _content=$_content$_other$_newline ;;
    esac
done <"$_job/when_set"
while read -r _line; do _content=$_content$_line$_newline; done <"$_job/fixed"
umask 077
_file=$_job/task/env.$$
printf '%s' "$_content" >"$_file" && printf 'export MAD_ENV_FILE=%s\n' "$_file"
exit 0
