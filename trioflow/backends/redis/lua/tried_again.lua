-- include: base activities
-- Return of each running instance the activity with the most attempts, if it has more than one.
-- ARGV: ids, packed.

local reply = {}
for _, id in ipairs(cmsgpack.unpack(ARGV[1])) do
  local row = redis.call('HMGET', P .. 'i:' .. id, 'status', 'execution', 'life')
  if row[1] == 'running' then
    local best
    each_activity(id, row[3] or '', function(execution, command, activity, life)
      local again = execution == tonumber(row[2]) and not activity.damaged and activity.attempt > 1
      local better = again and (not best or activity.attempt > best.attempt
        or activity.attempt == best.attempt and command < best.command)
      if better then
        best = {
          attempt = activity.attempt, command = command,
          task = describe_unfinished(id, execution, command, life, activity),
        }
      end
    end)
    reply[#reply + 1] = best and best.task
  end
end
return reply
