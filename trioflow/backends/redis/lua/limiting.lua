-- Limits across workers: what is allowed now. A script is atomic, so what it counts stays true until
-- it has written its leases; and nothing is counted up and down that could be forgotten.
--   limits                  '<kind>:<name>' -> a packed Limit;  '=version' -> differs after a change
--   limit:<kind>:<name>     its state, packed: how many began in each part of time, the last keys
--   admitted:<workflow>     instances that have begun -> their lives, those included that have ended
--   kept:<worker>           places of attempts that were given up -> queue, activity and key, packed
-- Instances that wait for a place are listed as waiting.lua says.
-- The keys by which activities take turns are lanes of their own, see `lane_name`.

-- Return whether there may be limits: most stores have none, and then this is all that is asked.
local function may_have_limits()
  return redis.call('EXISTS', P .. 'limits') == 1
end

local function no_limits()
  return { version = '', queue = {}, activity = {}, workflow = {}, of_activities = {}, keyed = false }
end

-- Return all limits by kind and name; `of_activities` are those of queues and activities, in order.
local function load_limits()
  local found = no_limits()
  if not may_have_limits() then
    return found
  end
  local stored = redis.call('HGETALL', P .. 'limits')
  for at = 1, #stored, 2 do
    local kind, name = string.match(stored[at], '^(%l+):(.*)$')
    if kind then
      local limit = cmsgpack.unpack(stored[at + 1])
      found[kind][name] = limit
      if kind ~= 'workflow' then
        found.of_activities[#found.of_activities + 1] = limit
        found.keyed = found.keyed or limit.key ~= nil
      end
    else
      found.version = stored[at + 1]
    end
  end
  table.sort(found.of_activities, function(a, b)
    return a.kind .. ':' .. a.name < b.kind .. ':' .. b.name
  end)
  return found
end

-- Return whether activities of a queue and a name have a key.
local function has_key(limits, queue, activity)
  local of_queue, of_name = limits.queue[queue], limits.activity[activity]
  return (of_queue and of_queue.key or of_name and of_name.key) ~= nil
end

-- Return whether a commit asks for more than limits allow.
local function is_over(limits, commit)
  local new = commit.new
  if new and limits.workflow[new.workflow] and (commit.leased or #(commit.turns or {}) > 0) then
    return true
  end
  for _, one in ipairs(commit.activities or {}) do
    if one.leased and (limits.queue[one.queue] or limits.activity[one.activity]) then
      return true
    end
    if has_key(limits, one.queue, one.activity) ~= ((one.limit_key or '') ~= '') then
      return true
    end
  end
  return false
end

-- Visit all activities that are leased: worker, token.
local function each_leased(visit)
  for _, worker in ipairs(redis.call('HKEYS', P .. 'names')) do
    for _, token in ipairs(redis.call('SMEMBERS', P .. 'running:' .. worker)) do
      visit(worker, token)
    end
  end
end

-- Visit all places that are kept: queue, activity, key.
local function each_kept(visit)
  for _, worker in ipairs(redis.call('HKEYS', P .. 'names')) do
    for _, packed in ipairs(redis.call('HVALS', P .. 'kept:' .. worker)) do
      visit(unpack(cmsgpack.unpack(packed)))
    end
  end
end

-- Drop what has ended from those that have begun; return how many are left.
local function admitted_of(workflow)
  local key = P .. 'admitted:' .. workflow
  local stored, left = redis.call('HGETALL', key), 0
  for at = 1, #stored, 2 do
    local row = redis.call('HMGET', P .. 'i:' .. stored[at], 'status', 'life')
    local there = row[1] == 'running' or row[1] == 'suspended'
    if there and (row[2] or '') == stored[at + 1] then
      left = left + 1
    else
      redis.call('HDEL', key, stored[at])
    end
  end
  return left
end
