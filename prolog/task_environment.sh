# shellcheck shell=sh disable=SC2154
# SPDX-License-Identifier: GPL-3.0-or-later
# What a task of a job of ours gets, printed for slurmstepd; `task_prolog` reads this file in, with the job's state
# directory in _job.
_newline='
'
# A line goes into the job's output and, where that is another file, into its errors: `madengine run` shows these alone.
_say() {
    printf 'print %s\n' "$1"
    [ -r "$_job/stderr" ] && IFS= read -r _errors <"$_job/stderr" || return 0
    [ -f "$_errors" ] && [ -w "$_errors" ] && printf '%s\n' "$1" >>"$_errors"
}
IFS= read -r _verdict <"$_job/verdict"
case $_verdict in
    ready | aside) ;;
    starting | '')
        _say "madengine: defect: the prolog gave no verdict on this node; this job runs without its help, see the node's journal"
        exit 0
        ;;
    *)
        _say "$_verdict"
        exit 1
        ;;
esac

# What a step has of its own. A batch script that another job's step has submitted inherits that one's SLURM_STEP_*, as no
# task of a real step does: there SLURM_NNODES is the step's, and the step's first node has the number 0.
_step=
_is_number() { case $1 in '' | 0?* | *[!0-9]* | ??????????*) return 1 ;; esac }
if _is_number "$SLURM_STEP_ID" && _is_number "$SLURM_NODEID" && _is_number "$SLURM_JOB_ID" \
    && _is_number "$SLURM_STEP_NUM_NODES" && [ "$SLURM_STEP_NUM_NODES" = "$SLURM_NNODES" ]; then
    # The first of `n[08-10,12],m1`: of each bracket, what stands before the first comma or dash.
    _first=''
    _rest=$SLURM_STEP_NODELIST
    while :; do
        case ${_rest%%[],]*} in *'['*) ;; *) break ;; esac
        _range=${_rest#*"["}
        _first=$_first${_rest%%"["*}${_range%%[],-]*}
        _rest=${_range#*"]"}
    done
    _first=$_first${_rest%%,*}
    case $SLURM_NODEID/$_first in */*[!A-Za-z0-9._-]*) ;; 0/"$SLURMD_NODENAME" | [1-9]*/?*) _step=$SLURM_STEP_ID ;; esac
fi

# Once in a job: by its batch script, or by the first task of its first step.
if [ -r "$_job/notes" ] && [ "$MADENGINE_SAID" != "$SLURM_JOB_ID" ] && [ "${_step:-0}${SLURM_PROCID:-0}" = 00 ]; then
    while IFS= read -r _line; do _say "$_line"; done <"$_job/notes"
    printf 'export MADENGINE_SAID=%s\n' "$SLURM_JOB_ID"
fi
[ "$_verdict" = ready ] && [ -r "$_job/exports" ] || exit 0

# What a user writes is not in /run, which must have room for every job's verdict.
_task=/var/lib/madengine/jobs/${_job##*/}/task
# Where the tasks have their temporary files; the epilog looks there as this user.
[ "$SLURM_TMPDIR" ] && [ -w "$_task" ] && printf '%s\n' "$SLURM_TMPDIR" >"$_task/tmpdir"
_keep=
[ -r "$_job/keep" ] && IFS= read -r _keep <"$_job/keep"
# Every node has the image: madengine would save all of it once more, and its archive into our store.
case " $_keep ${MAD_DOCKER_BUILDS+set} " in *' builds '*) ;; *' set '*) echo unset MAD_DOCKER_BUILDS ;; esac
# A shell function that bash takes from the environment: madengine's own task script copies the manifest from where the job
# was submitted, and may put another directory first in PATH; a function comes before both. See madengine_run.py.
_run=$_release/prolog/madengine_run.py
# The interpreter that the prolog ran; a node that has changed since has the distribution's.
_python=
[ -r "$_job/python" ] && IFS= read -r _python <"$_job/python"
case $_python in *[!A-Za-z0-9/._+-]*) _python= ;; esac
[ -x "$_python" ] || _python=/usr/bin/python3
case " $_keep " in *' manifest '*) ;; *)
    # shellcheck disable=SC2016 # for the task's bash, not for this shell
    [ ! -r "$_run" ] || printf 'export BASH_FUNC_madengine%%%%=() {  %s; if [ -r %s ]; then %s %s %s %s "$real" "$@"; else "$real" "$@"; fi; }\n' \
        'local real; real=$(type -P madengine) || { echo "madengine: command not found" >&2; return 127; }' \
        "$_run" "$_python -I" "$_run" "$_job" "$_task" ;;
esac

set -f
IFS=$_newline
# What the user has set stays as it is. A task of `srun` inherits what the batch script's own TaskProlog has set on
# another node, NODE_RANK for one: MADENGINE_EXPORTED tells that from a value of the user's.
_ours=
_value=
_names=
_output=
_leader=
[ "$_step" ] && [ -r "$_job/leader" ] && IFS= read -r _leader <"$_job/leader"
while read -r _line; do
    _name=${_line%%=*}
    case $_name in "$_line" | '' | [!A-Za-z_]* | *[!A-Za-z0-9_]*) continue ;; esac
    _names=$_names$_newline$_name
    # A step on some of the nodes meets at its own first node; two side by side have a port each, and the first the job's.
    case ${_step:+$_name} in
        MASTER_ADDR) [ "$_first" = "$_leader" ] || _line=MASTER_ADDR=$_first ;;
        MASTER_PORT) _line=MASTER_PORT=$((_step > 0 ? 30500 + (SLURM_JOB_ID * 7 + _step) % 2268 : 29500 + SLURM_JOB_ID % 1000)) ;;
        NNODES) _line=NNODES=$SLURM_STEP_NUM_NODES ;;
        NODE_RANK) _line=NODE_RANK=$SLURM_NODEID ;;
    esac
    eval "_is_set=\${$_name+yes} _value=\${$_name-}"
    if [ "$_is_set" ]; then
        case "|$MADENGINE_EXPORTED|" in *"|$_name=$_value|"*) ;; *) continue ;; esac
    fi
    _ours="$_ours|$_line"
    _output="${_output}export $_line$_newline"
done <"$_job/exports"
printf '%sexport MADENGINE_EXPORTED=%s\n' "$_output" "${_ours#|}"

# A secret that the manifest takes from another variable: its value goes to the task alone, and into no file. What would be
# more than one line to slurmstepd, or a variable of this script, is none.
while IFS=' ' read -r _name _others; do
    case $_name in '' | [!A-Za-z_]* | *[!A-Za-z0-9_]*) continue ;; esac
    eval "_is_set=\${$_name+yes}"
    IFS=' '
    for _other in $_others; do
        [ "$_is_set" ] && break
        case $_other in IFS | [!A-Za-z]* | *[!A-Za-z0-9_]*) continue ;; esac
        eval "_value=\${$_other-}"
        case $_value in '' | *"$_newline"*) continue ;; esac
        printf 'export %s=%s\n' "$_name" "$_value"
        break
    done
    IFS=$_newline
done <"$_job/sources"

# For `docker run --env-file`: a bare NAME takes its value, byte for byte, from the environment of the docker client.
# A file of another step or job, inherited, is none of the user's choice; on another node it is not even there.
case ${MAD_ENV_FILE-"$_task/"} in /var/lib/madengine/jobs/*/task/*) ;; *) exit 0 ;; esac
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
_file=$_task/env.$$
printf '%s' "$_content" >"$_file" && printf 'export MAD_ENV_FILE=%s\n' "$_file"
exit 0
