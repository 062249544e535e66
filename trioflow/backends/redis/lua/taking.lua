-- Included by the scripts that lease instances and activities to a worker.

local function set_of(names)
  local set = {}
  for _, name in ipairs(names) do
    set[name] = true
  end
  return set
end

-- Visit the members of a sorted set from the lowest score up to `last`, until `visit` returns true.
local function ascend(key, first, last, visit)
  local at = 0
  local size = 16
  while true do
    local found = redis.call('ZRANGEBYSCORE', key, first, last, 'WITHSCORES', 'LIMIT', at, size)
    for n = 1, #found, 2 do
      if visit(found[n], tonumber(found[n + 1])) then
        return
      end
    end
    if #found < 2 * size then
      return
    end
    at = at + size
    size = 256
  end
end

local function earlier(a, b)
  if a == nil then
    return b
  end
  if b == nil then
    return a
  end
  return math.min(a, b)
end

-- Return the priorities that occur in a queue, the highest first.
local function priorities_of(queue)
  local found = { 0 }
  for _, member in ipairs(redis.call('SMEMBERS', P .. 'lanes:' .. queue)) do
    local ending = lane(queue, member)
    local kinds = {
      P .. 'ready' .. ending, P .. 'visible' .. ending, P .. 'suspect' .. ending,
      P .. 'waits' .. ending,
    }
    if redis.call('EXISTS', unpack(kinds)) == 0 then
      srem('lanes:' .. queue, member)
    else
      found[#found + 1] = tonumber(member)
    end
  end
  table.sort(found, function(a, b)
    return a > b
  end)
  return found
end

local function by_rank(a, b)
  if a.priority ~= b.priority then
    return a.priority > b.priority
  end
  if a.at ~= b.at then
    return a.at < b.at
  end
  return a.id < b.id
end
