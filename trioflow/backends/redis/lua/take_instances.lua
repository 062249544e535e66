-- include: base taking
-- Lease ready instances to a worker.
-- ARGV: TakeRequest. Returns: now, next_at or '', then for each: id, ready_at, row fields, inbox.

local asked = cmsgpack.unpack(ARGV[1])
local worker, limit = asked.worker, asked.limit
if not alive(worker) then
  return { exact(now), '' }
end

local held = P .. 'held:' .. worker
local wanted_queues, excluded = set_of(asked.queues), set_of(asked.exclude)
local found = {}
local next_at

-- Mine: of these queues, or with no limit all of them. Returns the priority, or nil.
local function mine_wanted(id)
  local row = redis.call('HMGET', P .. 'i:' .. id, 'queue', 'workflow', 'priority')
  if limit == 0 or wanted_queues[row[1]] and not excluded[row[2]] then
    return tonumber(row[3]) or 0
  end
end

ascend(held, '-inf', now, function(id, at)
  local priority = mine_wanted(id)
  if priority then
    found[#found + 1] = { id = id, at = at, priority = priority }
  end
end)
ascend(held, '(' .. exact(now), '(inf', function(id, at)
  if mine_wanted(id) then
    next_at = at
    return true
  end
end)

local living = {}

local function is_left_to_another(sticky_worker)
  if not sticky_worker or sticky_worker == '' or sticky_worker == worker then
    return false
  end
  if living[sticky_worker] == nil then
    living[sticky_worker] = alive(sticky_worker) and true or false
  end
  return living[sticky_worker]
end

-- Returns how many were found.
local function look_for_free(queue, priority, most)
  local key = P .. 'ready' .. lane(queue, priority)
  local of_lane = 0
  ascend(key, '-inf', now, function(id, at)
    if of_lane >= most then
      return true
    end
    local row = redis.call('HMGET', P .. 'i:' .. id, 'workflow', 'sticky')
    if not excluded[row[1]] then
      if at > now - asked.sticky and is_left_to_another(row[2]) then
        next_at = earlier(next_at, at + asked.sticky)
      else
        found[#found + 1] = { id = id, at = at, queue = queue, priority = priority }
        of_lane = of_lane + 1
      end
    end
  end)
  ascend(key, '(' .. exact(now), '+inf', function(id, at)
    if next_at and at >= next_at then
      return true
    end
    if not next(excluded) or not excluded[redis.call('HGET', P .. 'i:' .. id, 'workflow')] then
      next_at = earlier(next_at, at)
      return true
    end
  end)
  return of_lane
end

if limit > 0 then
  for queue in pairs(wanted_queues) do
    local wanted = limit + 1
    for _, priority in ipairs(priorities_of(queue)) do
      wanted = wanted - look_for_free(queue, priority, wanted)
    end
  end
  table.sort(found, by_rank)
  if #found > limit then
    next_at = earlier(next_at, found[limit + 1].at)
  end
end

local reply = { exact(now), next_at and exact(next_at) or '' }
for n = 1, limit > 0 and math.min(limit, #found) or #found do
  local one = found[n]
  local id = one.id
  if one.queue then
    zrem('ready' .. lane(one.queue, one.priority), id)
    redis.call('HSET', P .. 'i:' .. id, 'worker', worker)
  end
  zadd('held:' .. worker, INF, id)
  reply[#reply + 1] = {
    id,
    exact(one.at),
    redis.call('HMGET', P .. 'i:' .. id, unpack(asked.fields)),
    redis.call('HGETALL', P .. 'x:' .. id),
  }
end
flush()
return reply
