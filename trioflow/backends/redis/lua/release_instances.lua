-- include: base activities instances
-- Give back instances with their activities. ARGV: nonce, again, source, worker, ids.
-- Returns the ids of those that were the worker's.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
local worker = ARGV[4]
local released, mine = {}, {}
for _, id in ipairs(cmsgpack.unpack(ARGV[5])) do
  if not mine[id] and redis.call('ZSCORE', P .. 'held:' .. worker, id) then
    mine[id] = true
    released[#released + 1] = id
    zrem('held:' .. worker, id)
    redis.call('HSET', P .. 'i:' .. id, 'worker', '', 'sticky', '')
    local place = redis.call('HMGET', P .. 'i:' .. id, 'queue', 'priority')
    list_ready(id, place[1], place[2], '', now)
    each_activity(id, function(execution, command, activity)
      if activity.worker == worker then
        offer_activity(id, execution, command, activity, now)
      end
    end)
  end
end
flush()
if #released > 0 then
  publish(ARGV[3])
end
return answer(ARGV[1], released)
