-- Copyright (c) 2026 The rocm.madengine authors
-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
--
-- sbatch, salloc and srun run this as the user, by the last line of /etc/slurm/cli_filter.lua, before they submit a job.
-- What the user's shell has in MAD_MANIFEST, MAD_CONTAINER_IMAGE and MAD_DOCKER_BUILDS becomes the job's request, the comment
-- that the hooks read: madengine:manifest=...,image=...,store=... What the user has written wins. A defect of ours never
-- stops a submission; a value that no request can hold does, with one line.
-- Lua 5.1 to 5.4. Source: SLURM's cli_filter/lua; measured with 22.05.8 and 24.11.5.

local WORD = "madengine"
local MANIFEST = "build_manifest.json" -- what the hooks look for where a request names neither a manifest nor an image
local LONGEST_BYTES = 1024 -- slurmctld refuses a longer comment, and says something about a path
local theirs = slurm_cli_pre_submit
local told = {} -- the components of a heterogeneous job are one submission: what is said, is said once

local function say(log, text)
  if not told[text] then
    told[text] = true
    log("%s", WORD .. ": " .. text)
  end
end

-- A job of ours that submits another one: what our TaskProlog has set there is not the user's wish.
local function of_the_user(name)
  local value = os.getenv(name)
  local exported = "|" .. (os.getenv("MADENGINE_EXPORTED") or "") .. "|"
  if not value or value == "" or exported:find("|" .. name .. "=" .. value .. "|", 1, true) then
    return nil
  end
  return value
end

local function text_of(options, name)
  local value = options[name]
  if type(value) ~= "string" or value == "unset" or value == "invalid-context" then
    return ""
  end
  return value
end

local function is_ours(words)
  return words == WORD or words:sub(1, #WORD + 1) == WORD .. ":"
end

local function has(words, key)
  return ("," .. words:sub(#WORD + 2):gsub("%s", "")):find("," .. key .. "=", 1, true) ~= nil
end

-- A step of a job that is there already asks for nothing.
local function is_step(options)
  return text_of(options, "type") == "srun" and (os.getenv("SLURM_JOB_ID") ~= nil or text_of(options, "jobid") ~= "")
end

local function is_there(folder, name)
  local file = io.open(folder .. "/" .. name, "r")
  if file then
    file:close()
  end
  return file ~= nil
end

local function refusal(name, value)
  if value:find("[,%c]") then
    return name .. " holds a comma or a control character, which no request can hold"
  end
  if value:find("^%s") or value:find("%s$") then
    return name .. " begins or ends with a blank, which no request can hold"
  end
  if name == "MAD_DOCKER_BUILDS" and value:sub(1, 1) ~= "/" then
    return "MAD_DOCKER_BUILDS=" .. value .. " is no absolute path"
  end
  return nil
end

-- Return what is to be added to *words*, in pairs of a variable's name and its key.
local function wanted(words)
  local found = {}
  -- Which image a job runs is one question: whoever has answered it, in part or in whole, has answered all of it.
  if not has(words, "manifest") and not has(words, "image") then
    found[#found + 1] = { "MAD_MANIFEST", "manifest" }
    found[#found + 1] = { "MAD_CONTAINER_IMAGE", "image" }
  end
  if not has(words, "store") then
    found[#found + 1] = { "MAD_DOCKER_BUILDS", "store" }
  end
  return found
end

local function request(words)
  local parts = {}
  for _, pair in ipairs(wanted(words)) do
    local value = of_the_user(pair[1])
    if value then
      local reason = refusal(pair[1], value)
      if reason then
        return nil, reason
      end
      parts[#parts + 1] = pair[2] .. "=" .. value
    end
  end
  if #parts == 0 then
    return words
  end
  local before = (words == "" or words == WORD) and WORD .. ":" or words .. ","
  local whole = before .. table.concat(parts, ",")
  if #whole > LONGEST_BYTES then
    return nil, "the request is longer than " .. LONGEST_BYTES .. " bytes"
  end
  return whole
end

local function ours(options)
  if is_step(options) then
    return slurm.SUCCESS
  end
  local names_image = of_the_user("MAD_MANIFEST") or of_the_user("MAD_CONTAINER_IMAGE")
  if not names_image and not of_the_user("MAD_DOCKER_BUILDS") then
    return slurm.SUCCESS
  end
  local comment, extra = text_of(options, "comment"), text_of(options, "extra")
  if comment == WORD .. "=off" or extra == WORD .. "=off" then
    return slurm.SUCCESS
  end
  local place = not is_ours(comment) and is_ours(extra) and "extra" or "comment"
  local words = place == "extra" and extra or comment
  if not is_ours(words) and not names_image then
    -- A store alone says where images are, not which: in a shell that exports it for good, most jobs are none of ours.
    local folder = text_of(options, "chdir")
    if not is_there(folder ~= "" and folder or ".", MANIFEST) then
      return slurm.SUCCESS
    end
  end
  if words ~= "" and not is_ours(words) then
    say(slurm.log_info, "the job has a comment of its own, so the shell's MAD_* variables ask for nothing; a job asks with --comment=madengine")
    return slurm.SUCCESS
  end
  local whole, reason = request(words)
  if not whole then
    say(slurm.log_error, reason .. "; change it, or submit with --comment=madengine=off")
    return slurm.ERROR
  end
  if whole ~= words then
    options[place] = whole
  end
  return slurm.SUCCESS
end

function slurm_cli_pre_submit(options, pack_offset)
  local code = theirs and theirs(options, pack_offset)
  if code and code ~= slurm.SUCCESS then
    return code
  end
  local is_well, result = pcall(ours, options)
  if not is_well then
    say(slurm.log_error, "defect: " .. tostring(result) .. "; the job is submitted without a request")
    return slurm.SUCCESS
  end
  return result
end
