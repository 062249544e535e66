-- What the taking of instances and of activities have in common.

-- What the last taking gave though its answer was lost; nil if it arrived or gave nothing.
local function unheard(worker, kind, heard)
  local stored = redis.call('GET', P .. 'taken:' .. worker .. ':' .. kind)
  if not stored then
    return nil
  end
  local last = cmsgpack.unpack(stored)
  return last.number > heard and last.what or nil
end

local function remember(worker, kind, number, what)
  local key = P .. 'taken:' .. worker .. ':' .. kind
  if #what > 0 then
    redis.call('SET', key, cmsgpack.pack({ number = number, what = what }))
  end
end

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

local function by_time(a, b)
  if a.at ~= b.at then
    return a.at < b.at
  end
  return a.id < b.id
end
