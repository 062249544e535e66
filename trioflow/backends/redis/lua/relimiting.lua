-- Included by the scripts that change limits.

-- Make activities forget their keys, which would keep them out of every look from now on: those of
-- a queue, or of a name.
local function forget_keys(kind, name)
  local function concerns(row)
    return row.limit_key ~= '' and (kind == 'queue' and row.queue or row.activity) == name
  end
  each_leased(function(_, token)
    local id, execution, command, life = parse_token(token)
    local row = load_activity(id, execution, command, life)
    if row and not row.damaged and concerns(row) then
      row.limit_key = ''
      store_activity(id, execution, command, life, row)
    end
  end)
  local queues = kind == 'queue' and { name } or redis.call('SMEMBERS', P .. 'queues')
  for _, queue in ipairs(queues) do
    for _, key in ipairs(redis.call('ZRANGE', P .. 'keys:' .. queue, 0, -1)) do
      local lanes = lane_name(queue, key)
      local priorities = redis.call('SMEMBERS', P .. 'lanes:' .. lanes)
      priorities[#priorities + 1] = 0
      for _, priority in ipairs(priorities) do
        local place = 'visible' .. lane(lanes, priority)
        for _, token in ipairs(redis.call('ZRANGE', P .. place, 0, -1)) do
          local id, execution, command, life = parse_token(token)
          local row = load_activity(id, execution, command, life)
          if row and not row.damaged and concerns(row) then
            zrem(place, token)
            row.limit_key = ''
            store_activity(id, execution, command, life, row)
            zadd('visible' .. open_lane(queue, row.priority), row.visible_at, token)
          end
        end
      end
    end
  end
  flush()
end
