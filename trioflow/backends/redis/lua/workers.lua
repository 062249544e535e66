-- What a worker's end means for what it held.

-- Free all that a worker holds, and delete it.
local function bury(worker, failed_attempts)
  redis.call('ZREM', P .. 'workers', worker)
  redis.call('HDEL', P .. 'names', worker)
  local held = redis.call('ZRANGE', P .. 'held:' .. worker, 0, -1, 'WITHSCORES')
  for at = 1, #held, 2 do
    local id, ready_at = held[at], tonumber(held[at + 1])
    redis.call('HSET', P .. 'i:' .. id, 'worker', '', 'sticky', '')
    local place = redis.call('HMGET', P .. 'i:' .. id, 'queue', 'priority')
    list_ready(id, place[1], place[2], '', math.min(ready_at, now))
  end
  local tokens = redis.call('SMEMBERS', P .. 'running:' .. worker)
  redis.call('DEL', P .. 'held:' .. worker)
  flush()
  for _, token in ipairs(tokens) do
    local id, execution, command = parse_token(token)
    local activity = load_activity(id, execution, command)
    if activity.cancel then
      drop_cancelled(id, execution, command, activity)
    else
      activity.attempt = activity.attempt + failed_attempts
      offer_activity(id, execution, command, activity, now)
    end
  end
  flush()
end
