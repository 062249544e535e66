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

-- Mine: of these queues, or with no limit all of them.
local function is_mine_wanted(id)
  if limit == 0 then
    return true
  end
  local row = redis.call('HMGET', P .. 'i:' .. id, 'queue', 'workflow')
  return wanted_queues[row[1]] and not excluded[row[2]]
end

ascend(held, '-inf', now, function(id, at)
  if is_mine_wanted(id) then
    found[#found + 1] = { id = id, at = at }
  end
  return limit > 0 and #found > limit
end)
ascend(held, '(' .. exact(now), '(inf', function(id, at)
  if is_mine_wanted(id) then
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

local function look_for_free(queue)
  local key = P .. 'ready:' .. queue
  local of_queue = 0
  ascend(key, '-inf', now, function(id, at)
    local row = redis.call('HMGET', P .. 'i:' .. id, 'workflow', 'sticky')
    if not excluded[row[1]] then
      if at > now - asked.sticky and is_left_to_another(row[2]) then
        next_at = earlier(next_at, at + asked.sticky)
      else
        found[#found + 1] = { id = id, at = at, queue = queue }
        of_queue = of_queue + 1
      end
    end
    return of_queue > limit
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
end

if limit > 0 then
  for queue in pairs(wanted_queues) do
    look_for_free(queue)
  end
  table.sort(found, by_time)
  if #found > limit then
    next_at = earlier(next_at, found[limit + 1].at)
  end
end

local reply = { exact(now), next_at and exact(next_at) or '' }
for n = 1, limit > 0 and math.min(limit, #found) or #found do
  local one = found[n]
  local id = one.id
  if one.queue then
    zrem('ready:' .. one.queue, id)
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
