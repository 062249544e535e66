-- include: base
-- Return queue, running, suspended, pending instances, pending and running activities, who serves its
-- instances and its activities, and since when the oldest instance and activity wait or '', of each
-- queue.

local function number(what, queue)
  return tonumber(redis.call('HGET', P .. 'numbers', what .. ':' .. queue) or 0)
end

-- How many living workers serve a queue, for instances and for activities; and how many may serve
-- any, since they do not say.
local served = { {}, {} }
local unknown = 0
local beats = redis.call('ZRANGE', P .. 'workers', 0, -1, 'WITHSCORES')
for at = 1, #beats, 2 do
  local packed = redis.call('HGET', P .. 'serves', beats[at])
  -- What is damaged must hide nothing else.
  local read, serves = pcall(cmsgpack.unpack, packed or '')
  if read and type(serves) == 'table' then
    local lease = serves[3]
    if not lease or tonumber(beats[at + 1]) + lease >= now then
      for kind, workers in ipairs(served) do
        for _, queue in ipairs(serves[kind]) do
          workers[queue] = (workers[queue] or 0) + 1
        end
      end
    end
  else
    unknown = unknown + 1
  end
end

-- Return the earlier of a time and the lowest score of what waits in a sorted set, if it has come.
local function earliest(at, place)
  local first = redis.call('ZRANGEBYSCORE', place, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  return first and math.min(at, tonumber(first)) or at
end

local function told(at)
  return at == INF and '' or exact(at)
end

local reply = {}
for _, queue in ipairs(redis.call('SMEMBERS', P .. 'queues')) do
  local priorities = redis.call('SMEMBERS', P .. 'lanes:' .. queue)
  priorities[#priorities + 1] = 0
  local waiting, ready = 0, 0
  local ready_at, visible_at = INF, INF
  for _, priority in ipairs(priorities) do
    waiting = waiting + redis.call('ZCARD', P .. 'visible' .. lane(queue, priority))
    visible_at = earliest(visible_at, P .. 'visible' .. lane(queue, priority))
    for _, kind in ipairs({ 'ready', 'suspect', 'waits' }) do
      local place = P .. kind .. lane(queue, priority)
      ready = ready + redis.call('ZCOUNT', place, '-inf', now)
      ready_at = earliest(ready_at, place)
    end
  end
  for _, key in ipairs(redis.call('ZRANGE', P .. 'keys:' .. queue, 0, -1)) do
    local name = queue .. '\0' .. key
    local levels = redis.call('SMEMBERS', P .. 'lanes:' .. name)
    levels[#levels + 1] = 0
    for _, priority in ipairs(levels) do
      waiting = waiting + redis.call('ZCARD', P .. 'visible' .. lane(name, priority))
      visible_at = earliest(visible_at, P .. 'visible' .. lane(name, priority))
    end
  end
  local running, suspended = number('running', queue), number('suspended', queue)
  local activities = number('activities', queue)
  if waiting + running + suspended + activities > 0 then
    local workers = (served[1][queue] or 0) + unknown
    local activity_workers = (served[2][queue] or 0) + unknown
    reply[#reply + 1] = {
      queue, running, suspended, ready, waiting, activities, workers, activity_workers,
      told(ready_at), told(visible_at),
    }
  end
end
return reply
