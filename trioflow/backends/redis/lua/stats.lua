-- include: base
-- Return queue, running, suspended, pending instances, pending and running activities of each queue.

local function number(what, queue)
  return tonumber(redis.call('HGET', P .. 'numbers', what .. ':' .. queue) or 0)
end

local reply = {}
for _, queue in ipairs(redis.call('SMEMBERS', P .. 'queues')) do
  local priorities = redis.call('SMEMBERS', P .. 'lanes:' .. queue)
  priorities[#priorities + 1] = 0
  local waiting, ready = 0, 0
  for _, priority in ipairs(priorities) do
    waiting = waiting + redis.call('ZCARD', P .. 'visible' .. lane(queue, priority))
    for _, suspect in ipairs({ false, true }) do
      local place = P .. place_of(queue, priority, suspect)
      ready = ready + redis.call('ZCOUNT', place, '-inf', now)
    end
  end
  local running, suspended = number('running', queue), number('suspended', queue)
  local activities = number('activities', queue)
  if waiting + running + suspended + activities > 0 then
    reply[#reply + 1] = { queue, running, suspended, ready, waiting, activities }
  end
end
return reply
