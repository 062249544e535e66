-- Ending instances at once, without asking their code; and creating others, perhaps in their place.

-- Return what `terminate_family` needs to know of an instance, or nil if there is none that is open.
local function open_row(id)
  local row = redis.call(
    'HMGET', P .. 'i:' .. id, 'status', 'seq', 'queue', 'worker', 'parent', 'parent_execution',
    'priority', 'life', 'deaths', 'parent_life', 'parent_command', 'options'
  )
  return row[1] and is_open(row[1]) and row or nil
end

local function end_one(id, row, outcome)
  set_status(id, row[2], row[3], row[1], 'terminated')
  if row[4] and row[4] ~= '' then
    zrem('held:' .. row[4], id)
  else
    leave_place(id, row[3], row[7], is_suspect(row[9]))
  end
  redis.call(
    'HSET', P .. 'i:' .. id, 'status', 'terminated', 'outcome', outcome, 'finished_at', now_exact,
    'worker', '', 'sticky', '', 'wake_at', ''
  )
  redis.call('DEL', P .. 'x:' .. id)
  each_activity(id, row[8] or '', function(execution, command, activity, life)
    stop_activity(id, execution, command, life, activity)
  end)
end

-- End an instance, of which `top` is the row, and its unfinished descendants. Tell its parent the
-- event of these two parts, between which stands the parent's command.
local function terminate_family(top_id, top, outcome, event_before, event_after)
  local family, at, rows = { top_id }, 1, { [top_id] = top }
  while family[at] do
    for _, child in ipairs(redis.call('ZRANGE', P .. 'children:' .. family[at], 0, -1)) do
      local row = not rows[child] and open_row(child)
      -- A child of an earlier life of the id goes on.
      if row and (row[10] or '') == (rows[family[at]][8] or '') then
        rows[child] = row
        family[#family + 1] = child
      end
    end
    at = at + 1
  end
  for _, id in ipairs(family) do
    end_one(id, rows[id], outcome)
  end
  flush()
  free_shared(family)
  if top[5] then
    local event = event_before .. cjson.encode(top[11] or '') .. event_after
    deliver(top[5], { execution = tonumber(top[6]), life = top[10] or '', event = event })
    flush()
  elseif tell_schedule(top_id, top[12], 'terminated') then
    flush()
  end
end

-- Create an instance, free; return false if an unfinished one has its id, or without `reuse` any.
local function create_one(new, reuse)
  local row = redis.call('HMGET', P .. 'i:' .. new.id, 'status', 'execution')
  if row[1] and (not reuse or is_open(row[1])) then
    return false
  end
  local execution = 1
  if row[1] then
    execution = tonumber(row[2]) + 1
    keep_execution(new.id, 'ended', {})
    forget_instance(new.id)
  end
  store_instance(new.id, new, {
    status = 'running', execution = execution, turns = 0, events = 0, worker = '', sticky = '',
  }, execution)
  list_ready(new.id, new.queue, new.priority, nil, '', first_ready(new.start_at))
  return true
end
