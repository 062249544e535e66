-- include: base activities instances workers
-- Give back instances with their activities. ARGV: nonce, again, source, worker, ids.
-- Returns the ids of those that were the worker's.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
local worker = ARGV[4]
local released, mine, tokens = {}, {}, {}
for _, id in ipairs(cmsgpack.unpack(ARGV[5])) do
  if not mine[id] and redis.call('ZSCORE', P .. 'held:' .. worker, id) then
    mine[id] = true
    released[#released + 1] = id
    zrem('held:' .. worker, id)
    each_activity(id, free_instance(id, now, false), function(execution, command, activity, life)
      if activity.worker == worker then
        tokens[#tokens + 1] = token_of(id, execution, command, life)
      end
    end)
  end
end
flush()
give_back_all(worker, tokens)
flush()
if #released > 0 then
  publish(ARGV[3])
end
return answer(ARGV[1], released)
